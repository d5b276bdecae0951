"""Stage `prior`: the encoder's artifact with a prior beside it that is no encoder: the bias model, or the stacker."""

from __future__ import annotations

import json
import shutil
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.crash_points import reached
from storage.encoder_data import read_content, read_examples, read_sizes
from storage.prior_data import write_prior
from storage.schemas import SAMPLES
from storage.store import ArtifactRef, Draft
from storage.tables import read_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.encoders.known_labels import TimedExamples
from thinkrec_core.encoders.prior import FittedKind, fit_prior
from thinkrec_core.evaluation.auc import auc, uauc


@task(name="prior", cache_policy=NO_CACHE)
def fit_llm_prior(
    context: RunContext, data: ArtifactRef, encoder: ArtifactRef, kind: FittedKind
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with the files of `encoder`, prior.safetensors, prior_{train,valid,test}.parquet and prior.json.

    Whatever reads an encoder reads this one in its place, and finds the prior's logits there. Those of train rows are out of
    fold by users and under a label cut-off; those of valid and test are the ladder's rung of the same name.

    Raises:
        TrainingError: scikit-learn keeps its trees in a way that is not known here.
    """
    config, labelled = context.config, context.config.data.history == "labelled"

    def build(draft: Draft, tracker: StageTracker) -> None:
        path = context.store.path
        shutil.copytree(path(encoder), draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        folder = path(data)
        rows = {split: read_examples(folder / f"samples_{split}.parquet") for split in ("train", "valid", "test")}
        time = read_table(folder / "samples_train.parquet", SAMPLES, ["timestamp"]).column(0).to_numpy()
        folds = config.encoder.prior_folds
        with context.view.progress(f"out-of-fold {kind}", folds) as advance:
            fitted = fit_prior(
                kind,
                config.ladder,
                TimedExamples(rows["train"], time),
                read_content(folder),
                read_sizes(folder),
                labelled,
                folds,
                config.seed,
                lambda done: advance(completed=done),
            )
        logits = {"train": fitted.train, **{split: fitted.prior.logits(rows[split]) for split in ("valid", "test")}}
        reached("prior/fitted")
        write_prior(draft.path, fitted.prior, logits)
        figures = {
            f"{split}_{name}": value
            for split in ("train", "valid")
            for name, value in (
                ("auc", auc(logits[split], rows[split].label)),
                ("uauc", uauc(rows[split].user_idx, logits[split], rows[split].label)),
            )
        }
        described = {"kind": kind, "folds": folds, **figures}
        (draft.path / "prior.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
        tracker.metrics(figures)

    settings: dict[str, Any] = {
        "kind": kind,
        "bias": config.ladder.bias,
        "stacker": config.ladder.stacker,
        "folds": config.encoder.prior_folds,
        "seed": config.seed,
        "labelled": labelled,
    }
    return run_stage(context, "prior", build, inputs={"data": data, "encoder": encoder}, settings=settings)
