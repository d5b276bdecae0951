"""A store with wrong predictions about "Item 0", "Item 1", ..., and a run of the reflections stage on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from storage.schemas import REFLECTIONS, WRONG
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import read_table, write_table
from storage.tracking import NullTracker, Tracker
from tasks.distil_reflections import distil_reflections
from tasks.stage import RunContext
from tasks.view import View
from thinkrec_core.config.root import ThinkRecConfig

USER = 987654


def context_of(
    store: ArtifactStore, url: str, console: Console | None = None, tracker: Tracker | None = None, **config: Any
) -> RunContext:
    """A run with the teacher at `url`."""
    values = {
        "teacher": {"base_url": url, "model": "m", "attempts": 2, **config.pop("teacher", {})},
        "reflections": {"min_accepted": 0, "max_failed_share": 1.0, **config.pop("reflections", {})},
        **config,
    }
    return RunContext(ThinkRecConfig.model_validate(values), store, tracker or NullTracker(), View(console))


def wrong_rows(store: ArtifactStore, count: int = 8) -> ArtifactRef:
    """The artifact with `count` wrong predictions; the odd ones were liked."""
    columns = {
        "row": [10 * number for number in range(count)],
        "user_idx": [USER] * count,
        "item_idx": list(range(1, count + 1)),
        "label": [number % 2 for number in range(count)],
        "p_yes": [0.9 - 0.8 * (number % 2) for number in range(count)],
        "title": [f"Item {number}" for number in range(count)],
        "keywords": ["Drama"] * count,
        "history_titles": [["Old A", "Old B"]] * count,
        "history_label": [[1, 0]] * count,
    }
    key = f"k{count}"
    with store.locked("wrong_predictions", key):
        found = store.find("wrong_predictions", key)
        if found is not None:
            return found
        draft = store.draft("wrong_predictions", key)
        write_table(draft.path / "wrong.parquet", columns, WRONG)
        return store.publish(draft, "wrong_predictions", key, {})


def distil(context: RunContext, count: int = 8) -> Path:
    """The folder of the reflections on `count` wrong predictions."""
    result = distil_reflections.fn(context, wrong_rows(context.store, count))
    return context.store.path(result if isinstance(result, ArtifactRef) else result.data)


def table(folder: Path) -> list[dict[str, Any]]:
    """The reflections in `folder`."""
    return read_table(folder / "reflections.parquet", REFLECTIONS).to_pylist()


def summary(folder: Path) -> dict[str, Any]:
    """Their counts."""
    return dict(json.loads((folder / "summary.json").read_text()))


def reflect_once(root: Path, url: str, count: int, concurrency: int) -> None:
    """One run of the stage, for a process that may be killed."""
    teacher = {"concurrency": concurrency, "requests_per_minute": 1_000_000}
    distil(context_of(ArtifactStore(root), url, teacher=teacher), count)
