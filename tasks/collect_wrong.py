"""Stage `wrong_predictions`: the train rows that a named student gets wrong."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.crash_points import reached
from storage.models import resolve_model
from storage.rec_data import load_item_texts, load_samples
from storage.schemas import WRONG
from storage.store import ArtifactRef, Draft
from storage.tables import write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.evaluation.calibration import probability
from thinkrec_core.reflection.wrong_predictions import select_wrong, summarise_wrong
from thinkrec_core.seeds import generator


@task(name="wrong_predictions", cache_policy=NO_CACHE)
def collect_wrong_predictions(
    context: RunContext, data: ArtifactRef, encoder: ArtifactRef, warm_start: ArtifactRef | None = None
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with wrong.parquet and summary.json.

    The encoder's out-of-fold logits judge all train rows; an LLM student scores a seeded sample of
    `wrong_predictions.candidates`.
    """
    config = context.config
    wanted = config.wrong_predictions

    def build(draft: Draft, tracker: StageTracker) -> None:
        path = context.store.path
        train = load_samples(path(data), path(encoder), "train")
        rows = np.arange(len(train))
        if wanted.student == "encoder":
            logits = train.encoder_logit
        else:
            from tasks.llm_student import score_student  # loads torch, which the encoder's mistakes do not need

            count = min(wanted.candidates, len(train))
            rows = np.sort(generator(config.seed, "candidates").choice(len(train), count, replace=False))
            logits = score_student(context, data, encoder, warm_start, rows).astype(np.float64)
        chosen = select_wrong(train.label[rows], logits, wanted.rows, generator(config.seed, "wrong_predictions"))
        summary = summarise_wrong(train.label[rows], logits, chosen)
        if summary.warning:
            context.view.say(f"  warning: {summary.warning}")
        reached("wrong_predictions/chosen")
        texts = load_item_texts(path(data))
        kept = rows[chosen]
        histories = [train.history(int(row), config.llm.max_history) for row in kept]
        items = train.item_idx[kept].tolist()
        write_table(
            draft.path / "wrong.parquet",
            {
                "row": kept,
                "user_idx": train.user_idx[kept],
                "item_idx": items,
                "label": train.label[kept],
                "p_yes": probability(logits[chosen]).astype(np.float32),
                "title": [texts.titles[item] for item in items],
                "keywords": [texts.keywords[item] for item in items],
                "history_titles": [[texts.titles[item] for item in history] for history, _ in histories],
                "history_label": [labels for _, labels in histories],
            },
            WRONG,
        )
        values = {"student": wanted.student, **summary.as_dict()}
        (draft.path / "summary.json").write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
        draft.manifest["rows"] = values["rows"]
        tracker.metrics({"rows": values["rows"], "wrong": sum(summary.wrong), "scored": sum(summary.scored)})

    inputs: dict[str, ArtifactRef | str] = {"data": data, "encoder": encoder}
    settings: dict[str, Any] = {
        "seed": config.seed,
        "student": wanted.student,
        "rows": wanted.rows,
        "max_history": config.llm.max_history,
    }
    if wanted.student != "encoder":
        inputs["model"] = resolve_model(config.llm.model).digest
        settings |= {
            "candidates": wanted.candidates,
            "llm": config.llm.model_dump(mode="json", exclude={"model", "dtype", "lora"}),
            "history": config.data.history,
            "schedule": config.training.schedule,
            "prior": config.training.prior,
        }
    if warm_start is not None:
        inputs["warm_start"] = warm_start
    return run_stage(context, "wrong_predictions", build, inputs=inputs, settings=settings)
