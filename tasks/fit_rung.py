"""Stage `rung_<name>`: one method without a language model, fitted once per seed, and its scores on valid and test.

A rung reads the samples and nothing of another rung, so a changed setting fits one rung anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from safetensors.numpy import save_file as save_arrays

from storage.encoder_data import read_content, read_examples, read_sizes
from storage.schemas import SAMPLES
from storage.store import ArtifactRef, Draft
from storage.tables import read_table
from storage.tracking import StageTracker
from tasks.encoder_settings import encoder_settings
from tasks.stage import RunContext, run_stage
from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.config.ladder import PUBLISHED, LadderConfig, LadderRung
from thinkrec_core.encoders.bias import fit_bias
from thinkrec_core.encoders.content import ItemContent
from thinkrec_core.encoders.examples import Examples, Sizes
from thinkrec_core.encoders.stacker import StackerFeatures, TimedExamples, boosted_logits
from thinkrec_core.errors import ConfigError
from thinkrec_core.evaluation import floors
from thinkrec_core.evaluation.auc import auc, uauc
from thinkrec_core.seeds import generator

SEEDED: frozenset[LadderRung] = frozenset(
    {
        *("mf", "lightgcn", "sasrec", "din", "dcn", "own"),
        "mf_published",
        "lightgcn_published",
        "sasrec_published",
        "stacker",
        "stacker_uauc",
    }
)
"""Rungs that draw random numbers; the others are fitted once."""
LATER = ("valid", "test")
Scores = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class RungData:
    """The samples that every rung is fitted and scored on."""

    splits: dict[str, Examples]
    train_time: npt.NDArray[np.int64]
    sizes: Sizes
    content: ItemContent
    labelled: bool


@task(name="rung", cache_policy=NO_CACHE)
def fit_rung(context: RunContext, data: ArtifactRef, name: LadderRung) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with scores.safetensors (valid (S, R) and test (S, R), S fits) and metrics.json (valid AUC and UAUC).

    Raises:
        ConfigError: `bias_streaming` under liked histories, which hold no dislikes.
        TrainingError: a loss is not finite.
    """
    config, labelled = context.config.ladder, context.config.data.history == "labelled"
    if name == "bias_streaming" and not labelled:
        raise ConfigError("rung bias_streaming under data.history liked", "labelled histories", "leave the rung out")
    seeds = [context.config.seed + index for index in range(config.seeds if name in SEEDED else 1)]

    def build(draft: Draft, tracker: StageTracker) -> None:
        folder = context.store.path(data)
        splits = {split: read_examples(folder / f"samples_{split}.parquet") for split in ("train", *LATER)}
        time = read_table(folder / "samples_train.parquet", SAMPLES, ["timestamp"]).column(0).to_numpy()
        rung_data = RungData(splits, time, read_sizes(folder), read_content(folder), labelled)
        fits = []
        with context.view.progress(name, len(seeds)) as advance:
            for done, seed in enumerate(seeds, start=1):
                fits.append(_scores(config, name, rung_data, seed))
                advance(completed=done)
        stacked = {split: np.stack([fit[split] for fit in fits]) for split in LATER}
        save_arrays(stacked, draft.path / "scores.safetensors")
        valid = splits["valid"]
        figures = {
            "valid_auc": [auc(fit, valid.label) for fit in stacked["valid"]],
            "valid_uauc": [uauc(valid.user_idx, fit, valid.label) for fit in stacked["valid"]],
        }
        (draft.path / "metrics.json").write_text(json.dumps({"rung": name, "seeds": seeds, **figures}, indent=1) + "\n")
        for figure, values in figures.items():
            for index, value in enumerate(values):
                tracker.metrics({figure: value}, step=index)

    settings: dict[str, Any] = {"rung": name, **rung_settings(config, name), "labelled": labelled}
    if name in SEEDED:
        settings["seeds"] = seeds
    return run_stage(context, f"rung_{name}", build, inputs={"data": data}, settings=settings)


def rung_settings(config: LadderConfig, name: LadderRung) -> dict[str, Any]:
    """The configuration that the scores of rung `name` depend on."""
    if name in ("stacker", "stacker_uauc"):
        return {"bias": config.bias, "stacker": config.stacker}
    if name in ("bias", "bias_streaming"):
        return {"bias": config.bias}
    encoder = encoder_config(config, name)
    return encoder_settings(encoder) if encoder else {}


def encoder_config(config: LadderConfig, name: LadderRung) -> EncoderConfig | None:
    """The encoder settings of rung `name`; None where it is no trained encoder."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    found = getattr(config, name, None)
    return found if isinstance(found, EncoderConfig) else None


def _scores(config: LadderConfig, name: LadderRung, data: RungData, seed: int) -> Scores:
    train, later = data.splits["train"], {split: data.splits[split] for split in LATER}
    encoder = encoder_config(config, name)
    if encoder is not None:
        from thinkrec_core.encoders.fit import fit_encoder, score_examples  # torch: floors need none

        fitted = fit_encoder(encoder, train, later["valid"], data.sizes, seed).encoder
        return {split: score_examples(fitted, rows).astype(np.float64) for split, rows in later.items()}
    if name in ("popularity", "item_mean"):
        floor: Callable[..., npt.NDArray[np.float64]] = getattr(floors, name)
        known = floors.TrainRows(train.user_idx, train.item_idx, train.label)
        return {split: floor(known, rows.user_idx, rows.item_idx) for split, rows in later.items()}
    bias = fit_bias(config.bias, train.user_idx, train.item_idx, train.label, data.content, data.sizes)
    if name == "bias_streaming":
        return {split: bias.streaming(rows, config.bias) for split, rows in later.items()}
    plain = {split: bias.score(rows.user_idx, rows.item_idx) for split, rows in later.items()}
    if name == "bias":
        return plain
    timed, draw = TimedExamples(train, data.train_time), generator(seed, "stacker")
    made = StackerFeatures(config.stacker, config.bias, timed, data.content, data.sizes, data.labelled, draw)
    features, labels = made.train()
    found = boosted_logits(config.stacker, features, labels, [made.later(rows) for rows in later.values()], seed)
    blend = config.stacker.blend_uauc if name == "stacker_uauc" else config.stacker.blend
    return {split: (1 - blend) * one + blend * plain[split] for split, one in zip(later, found, strict=True)}


def read_scores(folder: Path) -> npt.NDArray[np.float64]:
    """(S, R) test scores of a fitted rung."""
    from safetensors.numpy import load_file

    return np.asarray(load_file(folder / "scores.safetensors")["test"], np.float64)
