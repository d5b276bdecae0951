"""The summary of a run, from artifacts on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from flows.run import Run
from flows.summary import summarise
from flows.training import Trained
from storage.store import ArtifactRef, ArtifactStore
from storage.tracking import NullTracker
from tasks.stage import RunContext
from tasks.view import View
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.evaluation.ladder import evaluate_ladder


def publish(store: ArtifactStore, stage: str, files: dict[str, Any]) -> ArtifactRef:
    with store.locked(stage, "k"):
        draft = store.draft(stage, "k")
        for name, content in files.items():
            (draft.path / name).write_text(json.dumps(content))
        return store.publish(draft, stage, "k", {})


def test_it_tells_what_the_teacher_did_and_cost(tmp_path: Path) -> None:
    prices = {"m": {"input": 1.0, "output": 10.0}}
    config = ThinkRecConfig.model_validate({"teacher": {"base_url": "https://h/v1", "model": "m", "prices": prices}})
    store = ArtifactStore(tmp_path)
    draw = np.random.default_rng(1)
    label = draw.integers(0, 2, 40)
    ladder = evaluate_ladder(draw.integers(0, 8, 40), label, label > 2, {"bias": draw.normal(label)}, "bias", 20, draw)
    counts = {"right_verdicts": 5, "leaked": 1, "prompt_tokens": 3000, "completion_tokens": 500}
    taught = {"model": "m", "rounds": {"1": 6}, "reasons": {"leaked hint": 1}, **counts}
    bare = publish(store, "bare", {})
    trained = Trained(
        data=bare,
        encoder=bare,
        wrong=bare,
        reflections=publish(store, "reflections", {"summary.json": {"accepted": 4, "rejected": 2, **taught}}),
        general=bare,
        clusters=publish(store, "clusters", {"clusters.json": {"trained": [False, True]}}),
        experts=(bare,),
    )
    evaluation = publish(store, "evaluation", {"rungs.json": ladder, "explanations.json": []})
    run = Run("r", "p", RunContext(config, store, NullTracker(), View()), 0.0)
    summary = summarise(run, trained, evaluation, bare)
    assert set(summary["adapters"]) == {"general", "expert_1"}
    assert summary["reflections"] == {"accepted": 4, "rejected": 2}
    assert summary["teacher"] == {**taught, "cost": 0.008}
    assert json.loads(json.dumps(summary)) == summary
