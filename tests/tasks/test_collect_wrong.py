"""The wrong_predictions stage on a small data set whose mistakes are known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tasks.llm_student
from storage.schemas import ENCODER_SCORES, ITEMS, SAMPLES, WRONG
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import read_table, write_table
from storage.tracking import NullTracker
from tasks import collect_wrong
from tasks.collect_wrong import collect_wrong_predictions
from tasks.stage import RunContext
from tasks.view import View
from thinkrec_core.config.root import ThinkRecConfig

ROWS, ITEM_COUNT = 40, 6
LABELS = [row % 2 for row in range(ROWS)]
# The encoder errs on rows 0..9 only.
LOGITS = [(1.0 if label else -1.0) * (-1 if row < 10 else 1) for row, label in enumerate(LABELS)]


def publish(store: ArtifactStore, stage: str, write: Any) -> ArtifactRef:
    with store.locked(stage, "k"):
        found = store.find(stage, "k")
        if found is not None:
            return found
        draft = store.draft(stage, "k")
        write(draft.path)
        return store.publish(draft, stage, "k", {})


def write_data(folder: Path) -> None:
    history = [[1 + (row + step) % ITEM_COUNT for step in range(row % 5)] for row in range(ROWS)]
    columns = {
        "user_id": [str(row) for row in range(ROWS)],
        "item_id": ["x"] * ROWS,
        "user_idx": list(range(1, ROWS + 1)),
        "item_idx": [1 + row % ITEM_COUNT for row in range(ROWS)],
        "label": LABELS,
        "timestamp": list(range(ROWS)),
        "split": ["train"] * ROWS,
        "not_cold": [True] * ROWS,
        "history_item_idx": history,
        "history_label": [[item % 2 for item in items] for items in history],
    }
    write_table(folder / "samples_train.parquet", columns, SAMPLES)
    items = list(range(1, ITEM_COUNT + 1))
    texts = {"item_id": list(map(str, items)), "title": [f"T{n}" for n in items], "keywords": [f"K{n}" for n in items]}
    write_table(folder / "items.parquet", {"item_idx": items, **texts}, ITEMS)


def write_encoder(folder: Path) -> None:
    write_table(folder / "scores_train.parquet", {"row": list(range(ROWS)), "logit": LOGITS}, ENCODER_SCORES)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def collect(store: ArtifactStore, **wanted: Any) -> tuple[list[dict[str, Any]], dict[str, Any], RunContext]:
    config = ThinkRecConfig.model_validate({"wrong_predictions": wanted, "llm": {"max_history": 2}})
    context = RunContext(config, store, NullTracker(), View())
    data, encoder = publish(store, "data", write_data), publish(store, "encoder", write_encoder)
    result = collect_wrong_predictions.fn(context, data, encoder)
    folder = store.path(result if isinstance(result, ArtifactRef) else result.data)
    rows = read_table(folder / "wrong.parquet", WRONG).to_pylist()
    return rows, json.loads((folder / "summary.json").read_text()), context


def test_the_encoders_mistakes_with_titles_and_the_newest_history(store: ArtifactStore) -> None:
    rows, summary, _ = collect(store, rows=48)
    assert [row["row"] for row in rows] == list(range(10))
    assert [row["label"] for row in rows] == LABELS[:10]
    # sigmoid(1) = .7311 where the item was not liked, 1 - .7311 where it was.
    assert [round(row["p_yes"], 4) for row in rows[:2]] == [0.7311, 0.2689]
    row = rows[4]
    assert (row["user_idx"], row["item_idx"], row["title"], row["keywords"]) == (5, 5, "T5", "K5")
    # Row 4 has the history 5, 6, 1, 2; the last two of it are shown.
    assert (row["history_titles"], row["history_label"]) == (["T1", "T2"], [1, 0])
    assert rows[0]["history_titles"] == []
    assert (summary["student"], summary["rows"], summary["warning"]) == ("encoder", 10, "")
    assert (summary["scored"], summary["wrong"], summary["kept"]) == ([20, 20], [5, 5], [5, 5])


def test_a_sample_holds_half_of_each_label_and_is_the_same_again(store: ArtifactStore, tmp_path: Path) -> None:
    rows, summary, _ = collect(store, rows=4)
    assert summary["kept"] == [2, 2]
    assert rows == collect(ArtifactStore(tmp_path / "other"), rows=4)[0]


def test_the_candidates_of_an_llm_do_not_matter_for_the_encoder(store: ArtifactStore) -> None:
    collect(store, rows=4, candidates=7)
    assert collect(store, rows=4, candidates=9)[2].results["wrong_predictions"].status == "cached"
    assert collect(store, rows=5, candidates=9)[2].results["wrong_predictions"].status == "ran"


def test_an_llm_student_scores_a_seeded_sample_of_rows(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[np.ndarray] = []

    class Resolved:
        digest = "d"

    def score(context: Any, data: Any, encoder: Any, warm_start: Any, rows: np.ndarray) -> np.ndarray:
        asked.append(rows)
        return np.where(np.asarray(LABELS)[rows] == 1, -2.0, 2.0).astype(np.float32)  # always wrong

    monkeypatch.setattr(tasks.llm_student, "score_student", score)
    monkeypatch.setattr(collect_wrong, "resolve_model", lambda name: Resolved)
    rows, summary, _ = collect(store, rows=48, student="zero_shot", candidates=12)
    assert len(asked[0]) == len(set(asked[0].tolist())) == 12
    assert asked[0].tolist() == sorted(asked[0].tolist())
    assert [row["row"] for row in rows] == asked[0].tolist()
    assert summary["student"] == "zero_shot"
    assert sum(summary["scored"]) == 12


def test_the_stage_of_the_encoder_needs_no_torch() -> None:
    code = "import sys, tasks.collect_wrong; print('torch' in sys.modules)"
    root = Path(collect_wrong.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.split()[-1] == "False"
