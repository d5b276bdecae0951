"""Stage `encoder`: the frozen collaborative-filtering encoder, its vectors, and its logits on every row."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from safetensors.numpy import save_file as save_arrays

from storage.crash_points import reached
from storage.encoder_data import read_examples, read_sizes
from storage.schemas import ENCODER_SCORES
from storage.store import ArtifactRef, Draft
from storage.tables import write_table
from storage.tracking import StageTracker
from tasks.encoder_settings import encoder_settings
from tasks.stage import RunContext, run_stage
from thinkrec_core.evaluation.auc import auc

if TYPE_CHECKING:
    from thinkrec_core.encoders.fit import Epoch, FittedEncoder

SPLITS = ("train", "valid", "test")


@task(name="encoder", cache_policy=NO_CACHE)
def train_encoder(
    context: RunContext, data: ArtifactRef, start: ArtifactRef | None = None
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with vectors.safetensors, weights.safetensors, encoder.json, scores_*.parquet and metrics.json.

    The train logits are out of fold; those of valid and test come from the encoder fitted on all train rows. encoder.json
    holds kind, settings and sizes, what `thinkrec_core.encoders.registry.restore_encoder` needs beside the weights, and
    passes, the epochs behind them.

    Under a warm start the out-of-fold fits start from nothing all the same, since the earlier encoder has seen their held-out
    rows; they run for as many epochs as earlier and new fit together.

    Args:
        start: weights of an earlier model (stage `start`).

    Raises:
        TrainingError: a loss is not finite.
        DataError: the earlier encoder has other settings.
    """
    config, seed, view = context.config.encoder, context.config.seed, context.view

    def build(draft: Draft, tracker: StageTracker) -> None:
        # These load torch, which a cached stage does not need.
        from safetensors.torch import save_file

        from storage.encoder_start import read_start
        from thinkrec_core.encoders.fit import fit_encoder, score_examples
        from thinkrec_core.encoders.out_of_fold import out_of_fold_logits

        folder = context.store.path(data)
        examples = {split: read_examples(folder / f"samples_{split}.parquet") for split in SPLITS}
        sizes = read_sizes(folder)
        for split in ("train", "valid"):
            tracker.dataset(folder / f"samples_{split}.parquet", f"samples_{split}", data.digest, split)

        with view.progress("encoder epochs", config.epochs) as advance:

            def show(epoch: Epoch) -> None:
                advance(completed=epoch.epoch, note=f"valid AUC {epoch.valid_auc:.4f}")

            earlier, passes = read_start(context.store.path(start), folder, config) if start else (None, 0)
            fitted = fit_encoder(config, examples["train"], examples["valid"], sizes, seed, show, earlier)
        passes += fitted.best_epoch
        reached("encoder/fitted")
        tracker.metric_batch(_curves(fitted))
        with view.progress("out-of-fold fits", config.prior_folds) as advance:
            train_logits = out_of_fold_logits(
                config, examples["train"], sizes, passes, seed, lambda done: advance(completed=done)
            )

        logits = {split: score_examples(fitted.encoder, examples[split]) for split in ("valid", "test")}
        for split, values in {"train": train_logits, **logits}.items():
            columns = {"row": np.arange(len(values), dtype=np.int32), "logit": values}
            write_table(draft.path / f"scores_{split}.parquet", columns, ENCODER_SCORES)
        reached("encoder/scored")
        save_arrays(fitted.encoder.tables(), draft.path / "vectors.safetensors")
        weights = {name: value.detach().contiguous() for name, value in fitted.encoder.state_dict().items()}
        save_file(weights, draft.path / "weights.safetensors")
        described = {"config": config.model_dump(mode="json"), "users": sizes.users, "items": sizes.items}
        described["passes"] = passes
        _write_json(draft.path / "encoder.json", described)

        first, best = fitted.epochs[0], fitted.best
        figures = {
            "best_epoch": fitted.best_epoch,
            "valid_auc": _figure(best.valid_auc),
            "valid_log_loss": best.valid_log_loss,
            "start_valid_auc": _figure(first.valid_auc),
            "train_auc_out_of_fold": auc(train_logits, examples["train"].label),
        }
        tracker.metrics(figures)
        curve = [{**vars(epoch), "valid_auc": _figure(epoch.valid_auc)} for epoch in fitted.epochs]
        _write_json(draft.path / "metrics.json", {"kind": config.kind, **figures, "epochs": curve})

    inputs = {"data": data} | ({"start": start} if start else {})
    return run_stage(context, "encoder", build, inputs=inputs, settings={**encoder_settings(config), "seed": seed})


def _curves(fitted: FittedEncoder) -> list[tuple[str, float, int]]:
    points: list[tuple[str, float, int]] = []
    for epoch in fitted.epochs:
        values = {"loss": epoch.loss, "valid_auc": _figure(epoch.valid_auc), "valid_log_loss": epoch.valid_log_loss}
        points += [(name, value, epoch.epoch) for name, value in values.items() if value is not None]
    return points


def _figure(value: float) -> float | None:
    """None for an undefined figure: NaN is not JSON."""
    return None if math.isnan(value) else value


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
