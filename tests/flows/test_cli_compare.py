"""`thinkrec compare`: rows are matched, differences of settings named, and each mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli import main
from storage.schemas import PREDICTIONS
from storage.tables import extended, write_table

ROWS = 60


def finished(home: Path, run: str, order: np.ndarray, learning_rate: float, **columns: Any) -> None:
    """A run as the store keeps it: summary, predictions, manifest."""
    folder = home / "artifacts" / "evaluation" / f"key-{run}"
    folder.mkdir(parents=True)
    label = columns.pop("label", np.arange(ROWS) % 2)
    table = {
        "user_id": [f"u{place % 5}" for place in order],
        "item_id": [f"i{place}" for place in order],
        "timestamp": order.astype(np.int64),
        "label": label[order].astype(np.int8),
        "not_cold": [True] * len(order),
        **{name: np.asarray(values, np.float64)[order] for name, values in columns.items()},
    }
    write_table(folder / "predictions.parquet", table, extended(PREDICTIONS, list(columns)))
    settings = {"training": {"learning_rate": learning_rate, "steps": 10}}
    (folder / "manifest.json").write_text(json.dumps({"settings": settings, "code": "c"}))
    (home / "runs").mkdir(exist_ok=True)
    summary = {
        "run": run,
        "predictions": str(folder / "predictions.parquet"),
        "rungs": {},
        "artifacts": {"evaluation": {"key": f"key-{run}", "digest": run}},
    }
    (home / "runs" / f"{run}.json").write_text(json.dumps(summary))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THINKREC_HOME", str(tmp_path))
    draw, labels = np.random.default_rng(1), np.arange(ROWS) % 2
    bias = draw.normal(size=ROWS)
    finished(tmp_path, "a", np.arange(ROWS), 0.1, score_bias=bias, score_mf=labels + draw.normal(size=ROWS))
    better = labels * 9.0
    finished(tmp_path, "b", np.arange(ROWS)[::-1], 0.2, score_bias=bias, score_mf=better, score_din=better)
    return tmp_path


def compared(capfd: pytest.CaptureFixture[str], *given: str) -> dict[str, Any]:
    assert main(["compare", *given, "--json", "--resamples", "50"]) == 0
    found = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_rows_are_matched_whatever_their_order(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = compared(capfd, "a", "b")
    assert (found["rows"], found["users"]) == (ROWS, 5)
    assert list(found["rungs"]) == ["bias", "mf"]
    assert found["rungs"]["bias"]["auc"]["difference"] == 0
    assert found["rungs"]["mf"]["auc"]["second"] == 1
    assert found["rungs"]["mf"]["auc"]["difference"] > 0
    assert found["changed"] == [
        {"stage": "evaluation", "changed": ["settings"], "settings": {"training.learning_rate": [0.1, 0.2]}}
    ]


def test_two_rungs_of_different_names_are_a_pair(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = compared(capfd, "a", str(home / "runs" / "b.json"), "--pair", "bias:din")
    assert found["rungs"]["bias:din"]["auc"]["second"] == 1


def test_in_words_a_person_sees_figures_and_what_changed(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a", "b"]) == 0
    told = capfd.readouterr().out
    assert "60 rows of 5 users" in told
    assert "training.learning_rate: 0.1 -> 0.2" in told


def test_mistakes_are_one_line(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    finished(home, "fewer", np.arange(ROWS - 10), 0.1, score_bias=np.zeros(ROWS))
    finished(home, "other", np.arange(ROWS), 0.1, label=np.zeros(ROWS), score_bias=np.zeros(ROWS))
    (home / "runs" / "open.json").touch()
    for given, words in (
        (("a", "c"), "no run c in"),
        (("a", "open"), "is no summary of a finished run"),
        (("a", "fewer"), "a scored 60 rows and fewer 50; 50 are the same"),
        (("a", "other"), "30 rows have one label in a and another in other"),
        (("a", "b", "--pair", "bias:none"), "--pair bias:none names no rung"),
    ):
        assert main(["compare", *given]) == 2
        told = capfd.readouterr().err
        assert words in told
        assert "Traceback" not in told
    found = compared(capfd, "a", "fewer", "--common")
    assert (found["rows"], found["only_first"], found["only_second"]) == (50, 10, 0)
    pq.write_table(pa.table({"x": [1]}), home / "artifacts" / "evaluation" / "key-fewer" / "predictions.parquet")
    assert main(["compare", "a", "fewer"]) == 2
