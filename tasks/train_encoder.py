"""Stage `encoder`: the frozen CF encoder, its vectors, and its scores of every sample."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from storage.rec_data import ragged
from storage.schemas import ENCODER_SCORES, SAMPLES
from storage.store import ArtifactRef, Draft
from storage.tables import read_table, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.encoders.examples import Examples, Sizes
from thinkrec_core.encoders.fit import fit_encoder, score_examples
from thinkrec_core.encoders.out_of_fold import out_of_fold_logits
from thinkrec_core.evaluation.auc import auc, uauc


@task(name="encoder", cache_policy=NO_CACHE)
def train_encoder(context: RunContext, data: ArtifactRef) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with vectors.safetensors, weights.safetensors, encoder.json, scores of all splits and metrics.json.

    Scores of train rows are out of fold: the LLM must not learn to trust a prior that has seen the answers.
    """
    config, seed = context.config.encoder, context.config.seed

    def build(draft: Draft, tracker: StageTracker) -> None:
        folder = context.store.path(data)
        statistics = json.loads((folder / "statistics.json").read_text())
        sizes = Sizes(statistics["users"], statistics["items"])
        splits = {split: _examples(folder, split) for split in ("train", "valid", "test")}
        with context.view.progress("training encoder", config.epochs) as advance:
            fitted = fit_encoder(
                config,
                splits["train"],
                splits["valid"],
                sizes,
                seed,
                lambda epoch: advance(completed=epoch.epoch, note=f"valid AUC {epoch.valid_auc:.4f}"),
            )
        scores = {
            "train": out_of_fold_logits(config, splits["train"], sizes, fitted.best_epoch, seed),
            "valid": score_examples(fitted.encoder, splits["valid"]),
            "test": score_examples(fitted.encoder, splits["test"]),
        }
        for split, logits in scores.items():
            columns = {"row": np.arange(len(logits)), "logit": logits.astype(np.float32)}
            write_table(draft.path / f"scores_{split}.parquet", columns, ENCODER_SCORES)
        save_file(fitted.encoder.tables(), draft.path / "vectors.safetensors")
        weights = {name: value.contiguous() for name, value in fitted.encoder.state_dict().items()}
        save_tensors(weights, draft.path / "weights.safetensors")
        (draft.path / "encoder.json").write_text(config.model_dump_json(indent=1) + "\n")
        valid, train = splits["valid"], splits["train"]
        metrics = {
            "kind": config.kind,
            "best_epoch": fitted.best_epoch,
            "epochs": len(fitted.epochs) - 1,
            "valid_auc": auc(scores["valid"], valid.label),
            "valid_uauc": uauc(valid.user_idx, scores["valid"], valid.label),
            "train_out_of_fold_auc": auc(scores["train"], train.label),
        }
        (draft.path / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
        draft.manifest["seed"] = seed
        tracker.dataset(folder / "samples_train.parquet", "samples_train", data.digest, "training")
        tracker.metric_batch([("valid_auc", epoch.valid_auc, epoch.epoch) for epoch in fitted.epochs])
        tracker.metric_batch([("loss", e.loss, e.epoch) for e in fitted.epochs if e.loss is not None])

    return run_stage(context, "encoder", build, inputs={"data": data}, settings={"encoder": config, "seed": seed})


def _examples(folder: Path, split: str) -> Examples:
    table = read_table(folder / f"samples_{split}.parquet", SAMPLES)
    offsets, items = ragged(table.column("history_item_idx"))
    _, labels = ragged(table.column("history_label"))
    user, item, label = (table.column(name).to_numpy().astype(np.int64) for name in ("user_idx", "item_idx", "label"))
    return Examples(user, item, label, offsets, items, labels)
