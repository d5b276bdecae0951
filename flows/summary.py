"""The summary of a run: what `thinkrec run --json` prints, runs/<run>.json keeps, and the terminal tells in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flows.run import Run
from flows.training import Trained
from storage.rec_data import trained_clusters
from storage.store import ArtifactRef
from thinkrec_core.report.reflections import cost
from thinkrec_core.report.words import headline

TAUGHT = ("model", "rounds", "reasons", "right_verdicts", "leaked", "prompt_tokens", "completion_tokens")
"""Of the summary of the reflections, what the summary of a run repeats."""


def summarise(
    run: Run,
    trained: Trained,
    evaluation: ArtifactRef,
    report: ArtifactRef,
) -> dict[str, Any]:
    """A JSON-able dictionary about a finished run.

    Keys: run, preset, seconds, stages {name: {status, seconds}}, all_cached, rows, users, floor, headline (sentences),
    rungs {name: {auc, uauc, auc_ci, ...}}, reflections {accepted, rejected}, teacher {model, rounds, reasons,
    right_verdicts, leaked, prompt_tokens, completion_tokens, cost}, explanations, predictions, report, adapters {general,
    expert_0, ...}, artifacts {stage: its reference}, config (the whole of it), mlflow_run (its id, empty if the run was not
    tracked), mlflow_uri. Paths are absolute.
    """
    path = run.context.store.path
    ladder = _read(path(evaluation) / "rungs.json")
    taught = _read(path(trained.reflections) / "summary.json")
    numbers = trained_clusters(path(trained.clusters))
    adapters = {"general": trained.general} | {
        f"expert_{n}": ref for n, ref in zip(numbers, trained.experts, strict=True)
    }
    return {
        "run": run.name,
        "preset": run.preset,
        "seconds": run.seconds,
        **run.stages(),
        "rows": ladder["rows"],
        "users": ladder["users"],
        "floor": ladder["floor"],
        "headline": " ".join(headline(ladder)),
        "rungs": ladder["rungs"],
        "reflections": {name: taught[name] for name in ("accepted", "rejected")},
        "teacher": {**{name: taught[name] for name in TAUGHT}, "cost": cost(taught, run.context.config.teacher)},
        "explanations": _read(path(evaluation) / "explanations.json"),
        "predictions": str(path(evaluation) / "predictions.parquet"),
        "report": str(path(report) / "report.html"),
        "adapters": {name: str(path(ref) / "adapter") for name, ref in adapters.items()},
        "config": run.context.config.model_dump(mode="json"),
        "mlflow_run": run.context.tracker.run_id,
        "mlflow_uri": run.context.tracker.uri,
    }


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
