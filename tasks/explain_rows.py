"""Stage `student_texts`: the trained student explains the rows that the teacher's reference traces are about.

The student sees what it sees when it recommends, never a reference: the stage reads of the references which rows they are
about, and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.models import resolve_model
from storage.schemas import REFERENCES, STUDENT_TEXTS
from storage.store import ArtifactRef, Draft
from storage.tables import read_table, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.errors import TeacherError

if TYPE_CHECKING:
    from tasks.scoring_bench import Scores, ScoringBench

BATCH = 8
"""Explanations that are written together."""


@task(name="student_texts", cache_policy=NO_CACHE)
def explain_rows(
    context: RunContext,
    data: ArtifactRef,
    encoder: ArtifactRef,
    general: ArtifactRef,
    clusters: ArtifactRef,
    experts: tuple[ArtifactRef, ...],
    references: ArtifactRef,
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with student_texts.parquet, one row per accepted reference trace.

    A killed stage goes on behind the last finished batch.

    Raises:
        TeacherError: no reference trace was accepted.
    """
    config = context.config
    base = resolve_model(config.llm.model)
    table = read_table(context.store.path(references) / "reference_traces.parquet", REFERENCES, ["row", "accepted"])
    rows = [row["row"] for row in table.to_pylist() if row["accepted"]]
    if not rows:
        raise TeacherError(
            f"none of {table.num_rows} reference traces was accepted",
            "one at least to compare explanations with",
            "raise explanations.rows, or use a stronger teacher; answers so far are kept",
        )
    split = config.explanations.split

    def build(draft: Draft, tracker: StageTracker) -> None:
        from tasks.scoring_bench import ScoringBench  # loads torch, which a cached stage does not need

        bench = ScoringBench(context, base, data, encoder, general, clusters, experts, split, rows)
        scores = bench.student_scores(draft.scratch)
        texts = _texts(context, bench, scores, draft.scratch / "texts.jsonl")
        columns = {"split": [split] * len(rows), "row": rows, "score": scores, "text": texts}
        draft.manifest["rows"] = write_table(draft.path / "student_texts.parquet", columns, STUDENT_TEXTS)
        tracker.metrics({"rows": len(rows), "says_yes": float((scores > 0).mean())})

    return run_stage(
        context,
        "student_texts",
        build,
        inputs={
            "data": data,
            "encoder": encoder,
            "general": general,
            "clusters": clusters,
            **{f"expert_{number}": ref for number, ref in enumerate(experts)},
            "model": base.digest,
        },
        settings={
            "split": split,
            "rows": rows,
            "tokens": config.evaluation.explanation_tokens,
            "prior": config.training.prior,
            "prompt": config.training.scored_prompt,
            "llm": config.llm.model_dump(mode="json", exclude={"model", "dtype", "lora"}),
            "history": config.data.history,
            "experts": config.experts.model_dump(mode="json", include={"last_layers", "router"}),
        },
    )


def _texts(context: RunContext, bench: ScoringBench, scores: Scores, kept: Path) -> list[str]:
    """One text per row, in batches of rows with prompts of similar length; finished batches are read from `kept`."""
    lengths = [len(bench.test.history(int(row), context.config.llm.max_history)[0]) for row in bench.rows]
    order = np.argsort(lengths, kind="stable").tolist()
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    done = _read_kept(kept)
    texts = [""] * len(order)
    written = 0
    with kept.open("a", encoding="utf-8") as file, context.view.progress("explanations", len(order)) as advance:
        for number, batch in enumerate(batches):
            if number in done:
                found = done[number]
            else:
                found = bench.reasons(batch, [bool(scores[index] > 0) for index in batch])
                file.write(json.dumps({"batch": number, "texts": found}) + "\n")
                file.flush()
            for index, text in zip(batch, found, strict=True):
                texts[index] = text
            written += len(batch)
            advance(completed=written)
    return texts


def _read_kept(path: Path) -> dict[int, list[str]]:
    """Finished batches; a last line that a kill cut off is ended and left out."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    return {line["batch"]: line["texts"] for line in lines}
