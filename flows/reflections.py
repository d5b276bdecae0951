"""The teacher alone: reflections on wrong predictions, or reference traces of held-out rows, without any training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from prefect import flow

from flows.config import load_config
from flows.data import prepared
from flows.encoder import encoded
from flows.preflight import check_batch, check_reflections
from flows.run import Run, open_run
from storage.journal import Journal
from storage.models import resolve_model
from storage.store import ArtifactRef, ArtifactStore
from tasks.collect_references import collect_references
from tasks.collect_wrong import collect_wrong_predictions
from tasks.distil_reflections import distil_reflections
from tasks.report_reflections import report_reflections
from tasks.teacher.batch import write_batch
from tasks.teacher.cases import Cases, reference_cases, wrong_cases
from tasks.teacher.conversations import Asking
from tasks.teacher.files import REFERENCE_FILE, REFLECTION_FILE
from tasks.teacher.identity import Teacher
from tasks.teacher.reflecting import replay_all
from tasks.train_llm import train_warm_start
from thinkrec_core.config.reflections import LOCAL
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.report.reflections import cost

Split = Literal["train", "valid", "test"]


@flow(name="reflections", flow_run_name="reflections {preset} {split}", persist_result=False)
def reflections(
    preset: str = "quickstart",
    overrides: dict[str, Any] = {},  # noqa: B006 - never changed; the server's form shows it as the default
    split: Split = "train",
    rows: int = 200,
) -> dict[str, Any]:
    """The summary of a run, also kept as runs/<run>.json below the store.

    Keys: run, preset, seconds, stages, all_cached, artifacts, split, accepted, rejected, reasons, rounds, prompt_tokens,
    completion_tokens, leaked, cost (null without a price), model, prompt_version, note, table, table_with_costs, report,
    mlflow_run, mlflow_uri.

    Args:
        preset: name of a preset.
        overrides: fields that replace those of the preset, nested or dotted.
        split: train reflects on wrong predictions; valid and test give reference traces.
        rows: size of the sample of a held-out split; wrong predictions are counted by `wrong_predictions.rows`.

    Raises:
        ThinkRecError: a mistake of the user; answers are kept.
    """
    config = load_config(preset, overrides)
    with open_run(f"reflections-{preset}", config, _opened(split)) as run:
        if split == "train":
            ref = run(distil_reflections, _wrong(run, config))
        else:
            ref = run(collect_references, prepared(run), split, rows)
        return run.keep(_summary(run, split, ref, run(report_reflections, ref)))


@flow(name="reflections_batch", flow_run_name="reflections batch {preset} {split}", persist_result=False)
def reflections_batch(
    target: str,
    preset: str = "quickstart",
    overrides: dict[str, Any] = {},  # noqa: B006 - never changed; the server's form shows it as the default
    split: Split = "train",
    rows: int = 200,
    most: int = 50_000,
) -> dict[str, Any]:
    """What the file of requests holds and where the dialogues stand: the fields of `Written`, model and path (null if
    nothing is left to ask).

    Args:
        target: the file to write.
        preset: as for `reflections`, and so are overrides, split and rows.
        most: requests in the file.

    Raises:
        ThinkRecError: a mistake of the user.
    """
    config = load_config(preset, overrides)
    check_batch(config)
    with open_run(f"batch-{preset}", config, _opened(split)) as run:
        cases, teacher = _cases(run, config, split, rows), Teacher.of(config.teacher)
        journal = Journal.of(run.context.store.root, teacher.name)
        dialogues = replay_all(config, teacher, cases, journal, lambda call: None)
        asking = Asking(config.teacher, teacher.name, config.seed)
        written = write_batch(dialogues, cases.rows, asking, Path(target), most)
        values = {**asdict(written), "model": teacher.name, "path": target if written.requests else None}
        return run.keep({"run": run.name, "preset": preset, "seconds": run.seconds, **run.stages(), **values})


def _wrong(run: Run, config: ThinkRecConfig) -> ArtifactRef:
    data = prepared(run)
    encoder = encoded(run, data)
    needs_warm_start = config.wrong_predictions.student == "warm_start"
    warm_start = run(train_warm_start, data, encoder) if needs_warm_start else None
    return run(collect_wrong_predictions, data, encoder, warm_start)


def _cases(run: Run, config: ThinkRecConfig, split: Split, rows: int) -> Cases:
    path = run.context.store.path
    if split == "train":
        return wrong_cases(path(_wrong(run, config)))
    return reference_cases(path(prepared(run)), split, rows, config.llm.max_history, config.seed)


def _opened(split: Split) -> Callable[[ThinkRecConfig, Path], ArtifactStore]:
    def check(config: ThinkRecConfig, root: Path) -> ArtifactStore:
        store = ArtifactStore(root)
        if split == "train":
            check_reflections(config)
            if config.wrong_predictions.student != "encoder":
                resolve_model(config.llm.model)
        if config.teacher.base_url == LOCAL:
            resolve_model(config.teacher.model)
        return store

    return check


def _summary(run: Run, split: Split, ref: ArtifactRef, report: ArtifactRef) -> dict[str, Any]:
    folder = run.context.store.path(ref)
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    name = REFLECTION_FILE if split == "train" else REFERENCE_FILE
    return {
        "run": run.name,
        "preset": run.preset,
        "seconds": run.seconds,
        **run.stages(),
        **found,
        "cost": cost(found, run.context.config.teacher),
        "table": str(folder / name),
        "table_with_costs": str(folder / "telemetry" / name),
        "report": str(run.context.store.path(report) / "reflections.html"),
        "mlflow_run": run.context.tracker.run_id,
        "mlflow_uri": run.context.tracker.uri,
    }
