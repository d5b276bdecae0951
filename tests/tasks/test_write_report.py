"""The report stage: reads what the stages wrote, tolerates absent parts, is found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.schemas import REFLECTIONS
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import write_table
from storage.tracking import NullTracker
from tasks.stage import RunContext
from tasks.view import View
from tasks.write_report import write_report
from tests.data_statistics import statistics
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import StoreError
from thinkrec_core.evaluation.ladder import evaluate_ladder

CLUSTERS = {
    "count": 2,
    "sizes": [5, 3],
    "train_rows": [9, 7],
    "trained": [False, True],
    "silhouette": 0.5,
    "users_without_train_rows": 2,
}


def publish(store: ArtifactStore, stage: str, files: dict[str, Any]) -> ArtifactRef:
    with store.locked(stage, "k"):
        draft = store.draft(stage, "k")
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (draft.path / name).write_text(text)
        return store.publish(draft, stage, "k", {})


def publish_reflections(store: ArtifactStore) -> ArtifactRef:
    counts = {
        "accepted": 4,
        "rejected": 4,
        "right_verdicts": 7,
        "leaked": 3,
        "prompt_tokens": 8,
        "completion_tokens": 8,
    }
    split = {"reasons": {"leak": 4}, "rounds": {"1": 8}, "accepted_rounds": {"1": 4}}
    summary = {**counts, **split, "model": "m", "prompt_version": "1"}
    rows = 8
    columns: dict[str, Any] = {
        "row": list(range(rows)),
        "label": [1] * rows,
        "verdict": ["yes"] * 7 + [None],
        "trace": [f"trace of row {row}" for row in range(rows)],
        "answer": ["Yes."] * rows,
        "rounds": [1] * rows,
        "hint_ids": [[]] * rows,
        "prompt_tokens": [1] * rows,
        "completion_tokens": [1] * rows,
        "model": ["m"] * rows,
        "prompt_version": ["1"] * rows,
        "accepted": [True] * 4 + [False] * 4,
        "reason": [""] * 4 + ["leak"] * 4,
    }
    with store.locked("reflections", "k"):
        draft = store.draft("reflections", "k")
        (draft.path / "summary.json").write_text(json.dumps(summary))
        write_table(draft.path / "reflections.parquet", columns, REFLECTIONS)
        return store.publish(draft, "reflections", "k", {})


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(ThinkRecConfig(), ArtifactStore(tmp_path), NullTracker(), View())


@pytest.fixture
def refs(context: RunContext) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 40)
    scores = {"bias": rng.normal(label), "thinkrec_general": rng.normal(label)}
    rungs = evaluate_ladder(rng.integers(0, 8, 40), label, label > 2, scores, "bias", 20, rng)
    losses = (
        '{"phase": "joint", "step": 0, "kind": "recommendation", "loss": 1, "bce": 0.7, "ce": 2, "learning_rate": 1}\n'
    )
    store = context.store
    return {
        "data": publish(store, "data", {"statistics.json": statistics(rows_read=1234)}),
        "encoder": publish(store, "encoder", {"metrics.json": {"valid": {"auc": 0.7}}}),
        "wrong": publish(store, "wrong_predictions", {"summary.json": {"kept": 48}}),
        "reflections": publish_reflections(store),
        "general": publish(store, "general", {"losses.jsonl": losses, "training.json": {"best_step": 1}}),
        "clusters": publish(store, "clusters", {"clusters.json": CLUSTERS}),
        "experts": (publish(store, "expert", {"losses.jsonl": losses, "training.json": {"steps": 4321}}),),
        "evaluation": publish(store, "evaluation", {"rungs.json": rungs, "explanations.json": []}),
    }


def run(context: RunContext, refs: dict[str, Any]) -> str:
    result = write_report.fn(context, **refs)
    ref = result if isinstance(result, ArtifactRef) else result.data
    return (context.store.path(ref) / "report.html").read_text()


def test_the_page_shows_what_the_stages_wrote(context: RunContext, refs: dict[str, Any]) -> None:
    page = run(context, refs)
    for shown in ("1,234", "Facts: expert 1", "4,321", "Rejected: leak", "ThinkRec with its general adapter reaches"):
        assert shown in page
    for figure in ("4 of 8 (50.0%)", "3 of 7 (42.9%)", "8, 1.00 per row", "teacher.prices does not name"):
        assert figure in page
    assert page.count("trace of row") == 5
    assert "trace of row 3" not in page


def test_it_is_found_again_and_follows_its_inputs(context: RunContext, refs: dict[str, Any]) -> None:
    run(context, refs)
    run(context, refs)
    assert context.results["report"].status == "cached"
    page = run(context, {**refs, "experts": ()})
    assert context.results["report"].status == "ran"
    assert "No expert adapters were trained" in page


def test_it_works_without_the_optional_files(context: RunContext, refs: dict[str, Any]) -> None:
    for stage in ("data", "encoder", "wrong", "reflections", "general"):
        refs[stage] = publish(context.store, f"bare_{stage}", {})
    assert "No reflections were kept" in run(context, refs)


def test_a_damaged_evaluation_is_one_line(context: RunContext, refs: dict[str, Any]) -> None:
    refs["evaluation"] = publish(context.store, "bad", {"rungs.json": "{"})
    with pytest.raises(StoreError, match=r"rungs\.json cannot be read"):
        run(context, refs)
