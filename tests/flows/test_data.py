"""How every flow begins."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from flows import data as module
from flows.run import Run
from storage.store import ArtifactStore
from storage.tracking import NullTracker
from tasks.prepare_data import prepare_data
from tasks.stage import RunContext
from tasks.view import View
from thinkrec_core.config.root import ThinkRecConfig


def test_warnings_are_told_whether_the_stage_ran_or_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "prepare_data", prepare_data.fn)  # without Prefect's engine
    published = {"train": 1, "valid": 1, "test": 1}
    values = {"source": "synthetic", "synthetic": {"users": 60, "items": 80, "rows": 900}, "published": published}
    config = ThinkRecConfig.model_validate({"data": values})
    for status in ("ran", "cached"):
        said = io.StringIO()
        view = View(Console(file=said, width=200))
        context = RunContext(config, ArtifactStore(tmp_path / "store"), NullTracker(), view)
        ref = module.prepared(Run("run", "quickstart", context, 0.0))
        assert (ref.stage, context.results["data"].status) == ("data", status)
        assert "warning            train has 7" in said.getvalue()
        assert "published are 1 (+" in said.getvalue()
