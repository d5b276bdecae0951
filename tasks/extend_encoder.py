"""Stage `encoder_extended`: a trained encoder with vectors for users that came later; all it knew stays bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from safetensors.numpy import load_file, save_file

from storage.encoder_data import read_examples
from storage.prior_data import PRIOR, read_prior, write_prior
from storage.rec_data import SIGNALS, load_samples, load_signals
from storage.schemas import ENCODER_SCORES, INTERACTIONS, ITEMS
from storage.store import ArtifactRef, Draft
from storage.tables import read_table, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.encoders.fold_in import ItemSide, fold_in, out_of_fold
from thinkrec_core.errors import DataError

LINEAR = ("mf", "lightgcn")
"""Encoders whose logit is mu + b_u + b_i + <e_u, e_i>, so that a user is a vector that can be found alone."""


@task(name="encoder_extended", cache_policy=NO_CACHE)
def extend_encoder(
    context: RunContext, encoder: ArtifactRef, old_data: ArtifactRef, data: ArtifactRef
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with vectors.safetensors, weights.safetensors, signals.safetensors, encoder.json and scores_*.parquet for
    all users of `data`.

    Users and items of `old_data` keep their vectors; new users are folded in from their train rows, those without any have
    zeros, as items without have. Train logits of new users are out of fold. A fitted prior stays as it is, and so do the
    statistics of the soft tokens' inputs: new rows would move the scale, and with it the scores of everybody.

    Raises:
        DataError: an encoder of another kind, or numbers of users or items that changed between the data sets.
    """
    folds = context.config.encoder.prior_folds

    def build(draft: Draft, tracker: StageTracker) -> None:
        path = context.store.path
        described = json.loads((path(encoder) / "encoder.json").read_text())
        kind = described["config"]["kind"]
        if kind not in LINEAR:
            raise DataError(f"users cannot be folded into the encoder {kind}", " or ".join(LINEAR), "set encoder.kind")
        _same_numbers(path(old_data), path(data))
        tables = load_file(path(encoder) / "vectors.safetensors")
        sizes = {"user": _largest(path(data), "user_idx"), "item": _largest(path(data), "item_idx")}
        known_users = len(tables["user_vectors"])
        grown = {
            name: np.concatenate([values, np.zeros((sizes[side] + 1 - len(values), *values.shape[1:]), values.dtype)])
            for side in sizes
            for name, values in ((f"{side}_{part}", tables[f"{side}_{part}"]) for part in ("vectors", "bias"))
        }
        trained = np.unique(read_examples(path(old_data) / "samples_train.parquet").user_idx)
        theta = np.column_stack([tables["user_vectors"], tables["user_bias"]]).astype(np.float64)[trained]
        items = ItemSide(
            grown["item_vectors"].astype(np.float64),
            grown["item_bias"].astype(np.float64),
            float(np.ravel(tables["mu"])[0]),
        )
        train = read_examples(path(data) / "samples_train.parquet")
        new = train.user_idx >= known_users
        rows = train.user_idx[new], train.item_idx[new], train.label[new]
        for user, values in fold_in(theta, items, *rows).items():
            grown["user_vectors"][user] = values[:-1]
            grown["user_bias"][user] = values[-1] if described["config"]["biases"] else 0.0
        save_file({**tables, **grown}, draft.path / "vectors.safetensors")
        weights = load_file(path(encoder) / "weights.safetensors")
        save_file(_grown_weights(weights, grown, described["config"]), draft.path / "weights.safetensors")
        old_rows = load_samples(path(old_data), path(encoder), "train")
        statistics = load_signals(path(encoder), old_rows, "vectors_and_scalars").statistics
        counts: dict[str, npt.NDArray[Any]] = {
            "user_count": np.bincount(train.user_idx, minlength=sizes["user"] + 1),
            "item_count": np.zeros(sizes["item"] + 1, np.int64),
        }
        for name, values in counts.items():
            values[: len(statistics[name])] = statistics[name]
        save_file({**statistics, **counts}, draft.path / SIGNALS)
        priors: dict[str, npt.NDArray[np.float64]] = {}
        prior = read_prior(path(encoder)) if (path(encoder) / PRIOR).is_file() else None
        for split in ("train", "valid", "test"):
            samples = read_examples(path(data) / f"samples_{split}.parquet")
            if prior is not None:
                priors[split] = prior.logits(samples)  # its fit has seen no row of a new user
            users = samples.user_idx
            logit = items.logits(
                grown["user_vectors"][users].astype(np.float64),
                grown["user_bias"][users].astype(np.float64),
                samples.item_idx,
            )
            if split == "train":
                logit[new] = out_of_fold(theta, items, *rows, folds)
            columns = {"row": np.arange(len(users), dtype=np.int32), "logit": logit.astype(np.float32)}
            write_table(draft.path / f"scores_{split}.parquet", columns, ENCODER_SCORES)
        if prior is not None:
            write_prior(draft.path, prior, priors)
        described |= {"users": sizes["user"], "items": sizes["item"], "folded_in": len(np.unique(rows[0]))}
        (draft.path / "encoder.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
        tracker.metrics({"users_folded_in": described["folded_in"]})
        draft.manifest |= {"rows": sizes["user"]}

    return run_stage(
        context,
        "encoder_extended",
        build,
        inputs={"encoder": encoder, "old_data": old_data, "data": data},
        settings={"folds": folds},
    )


def _grown_weights(
    weights: dict[str, npt.NDArray[Any]], after: dict[str, npt.NDArray[Any]], config: dict[str, Any]
) -> dict[str, npt.NDArray[Any]]:
    """The encoder's weights with rows for whoever is new, such that restored they give the vectors `after`.

    LightGCN takes the mean of layers + 1 terms, and a node without edges stands in the first alone.
    """
    found, terms = dict(weights), 1 + config["layers"] if config["kind"] == "lightgcn" else 1
    for side in ("user", "item"):
        table = weights[f"{side}_table"]
        vectors = after[f"{side}_vectors"][len(table) :]
        found[f"{side}_table"] = np.concatenate([table, (terms * vectors).astype(table.dtype)])
        found[f"{side}_bias"] = after[f"{side}_bias"]
    return found


def _largest(data: Path, column: str) -> int:
    table = read_table(data / "interactions.parquet", INTERACTIONS, [column])
    largest = int(table.column(column).to_numpy().max())
    if column == "item_idx":
        return max(largest, read_table(data / "items.parquet", ITEMS, [column]).num_rows)
    return largest


def _same_numbers(old: Path, new: Path) -> None:
    for name in ("user", "item"):
        before, after = (_numbers(folder, name) for folder in (old, new))
        moved = next((raw for raw, number in before.items() if after.get(raw, number) != number), None)
        taken = set(after.values()) and max(before.values(), default=0) >= min(
            (number for raw, number in after.items() if raw not in before), default=1 << 62
        )
        if moved is not None or taken:
            raise DataError(
                f"{name}s of the new data are numbered otherwise than those of the run",
                "a data set of `thinkrec data append`, whose numbers never change",
                "append the newcomers to the data set of the run",
            )


def _numbers(data: Path, name: str) -> dict[str, int]:
    columns: dict[str, Any] = read_table(
        data / "interactions.parquet", INTERACTIONS, [f"{name}_id", f"{name}_idx"]
    ).to_pydict()
    return dict(zip(columns[f"{name}_id"], columns[f"{name}_idx"], strict=True))
