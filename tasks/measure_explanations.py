"""Stage `explanations`: the student's reasons measured against the teacher's, with floors and intervals."""

from __future__ import annotations

import json
import re
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.rec_data import load_item_texts
from storage.schemas import EXPLANATIONS, REFERENCES, SAMPLES, STUDENT_TEXTS
from storage.store import ArtifactRef, Draft
from storage.tables import read_table, write_table
from storage.text_encoder import load_text_encoder, resolve_text_encoder
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.evaluation.explained import Explained
from thinkrec_core.evaluation.explanations import measure_explanations
from thinkrec_core.report.explanations_page import TEMPLATE, render_explanations
from thinkrec_core.report.templates import template_digest
from thinkrec_core.seeds import generator

_VERDICT = re.compile(r"^(?:Yes|No)\.?\s*")


@task(name="explanations", cache_policy=NO_CACHE)
def measure_texts(
    context: RunContext, data: ArtifactRef, references: ArtifactRef, texts: ArtifactRef
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with explanations.json, explanations.parquet (one row per explanation) and explanations.html.

    Raises:
        ModelError: `explanations.embedding_model` is no encoder.
    """
    config, settings = context.config, context.config.explanations
    found = None if settings.embedding_model is None else resolve_text_encoder(settings.embedding_model)

    def build(draft: Draft, tracker: StageTracker) -> None:
        rows, explained, titles = _explained(context, data, references, texts)
        encoder = None if found is None else load_text_encoder(found.path, settings.bertscore_layer)
        draw = generator(config.seed, "explanation_metrics")
        measured = measure_explanations(explained, titles, settings.bootstrap, draw, encoder, settings.shuffles)
        summary = json.loads((context.store.path(references) / "summary.json").read_text(encoding="utf-8"))
        kept = {name: summary[name] for name in ("accepted", "rejected", "model", "note")}
        figures = {"split": settings.split, "references": kept, **measured.figures}
        columns = rows | measured.columns
        draft.manifest["rows"] = write_table(draft.path / "explanations.parquet", columns, EXPLANATIONS)
        (draft.path / "explanations.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        page = render_explanations(
            figures, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        )
        (draft.path / "explanations.html").write_text(page, encoding="utf-8")
        _log(tracker, figures)
        for name in ("json", "html"):
            tracker.artifact(draft.path / f"explanations.{name}")

    inputs: dict[str, ArtifactRef | str] = {"data": data, "references": references, "texts": texts}
    if found is not None:
        inputs["embedding_model"] = found.digest
    return run_stage(
        context,
        "explanations",
        build,
        inputs=inputs,
        settings={
            "seed": config.seed,
            "explanations": settings.model_dump(mode="json", exclude={"embedding_model", "rows"}),
            "max_history": config.llm.max_history,
            "template": template_digest(TEMPLATE),
        },
    )


def _explained(
    context: RunContext, data: ArtifactRef, references: ArtifactRef, texts: ArtifactRef
) -> tuple[dict[str, list[Any]], Explained, list[str]]:
    """The columns that name a row, the rows as arrays, and the catalogue's titles by item_idx."""
    path, split, last = context.store.path, context.config.explanations.split, context.config.llm.max_history
    student = read_table(path(texts) / "student_texts.parquet", STUDENT_TEXTS)
    told = read_table(path(references) / "reference_traces.parquet", REFERENCES, ["row", "trace"]).to_pydict()
    reference = dict(zip(told["row"], told["trace"], strict=True))
    numbers = student.column("row").to_pylist()
    samples = read_table(path(data) / f"samples_{split}.parquet", SAMPLES).take(numbers)
    titles = list(load_item_texts(path(data)).titles)
    targets = samples.column("item_idx").to_pylist()
    histories = samples.column("history_item_idx").to_pylist()
    rows = {
        "split": student.column("split").to_pylist(),
        "row": numbers,
        "user_id": samples.column("user_id").to_pylist(),
        "item_id": samples.column("item_id").to_pylist(),
        "title": [titles[item] for item in targets],
        "label": samples.column("label").to_pylist(),
        "score": student.column("score").to_pylist(),
        "trace": [_VERDICT.sub("", text, count=1) for text in student.column("text").to_pylist()],
        "reference": [reference[row] for row in numbers],
    }
    explained = Explained(
        users=samples.column("user_idx").to_numpy(),
        labels=samples.column("label").to_numpy(),
        scores=student.column("score").to_numpy(),
        traces=rows["trace"],
        references=rows["reference"],
        # Slicing by -0 would give the whole history.
        known=[
            frozenset([item, *(history[-last:] if last else [])])
            for item, history in zip(targets, histories, strict=True)
        ],
    )
    return rows, explained, titles


def _log(tracker: StageTracker, figures: dict[str, Any]) -> None:
    tracker.metrics({"rows": figures["rows"], "agreement": figures["agreement"]})
    for name, metric in figures["metrics"].items():
        if metric is not None:
            difference = metric["difference"]["difference"]
            tracker.metrics({name: metric["value"], f"{name}_floor": metric["floor"], f"{name}_over_floor": difference})
    tracker.metrics({name: values["traces"] for name, values in figures["distinct"].items()})
