"""What came out of the dialogues, as tables and a summary.

reflections.parquet and summary.json follow from the answers alone. What else the calls took, such as latency and cost,
differs between equal runs: the whole table with those columns lies below telemetry/, outside the digest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from storage.schemas import COSTED_REFERENCES, COSTED_REFLECTIONS, REFERENCES, REFLECTIONS
from storage.store import Draft
from storage.tables import write_table
from tasks.teacher.calls import Calls
from tasks.teacher.cases import Cases
from tasks.teacher.files import REFERENCE_FILE, REFLECTION_FILE
from tasks.teacher.identity import Teacher
from thinkrec_core.config.reflections import Price
from thinkrec_core.reflection.dialogue import Dialogue
from thinkrec_core.reflection.prompts import PROMPT_VERSION, answer_word

LOCAL_NOTE = (
    "The teacher is the small local model, not a reasoning model such as QwQ-32B: its reflections show the mechanism, "
    "not the quality of the method."
)


def write_outcome(
    draft: Draft,
    cases: Cases,
    dialogues: Sequence[Dialogue],
    teacher: Teacher,
    calls: Calls,
    price: Price | None,
) -> dict[str, Any]:
    """The summary, after it and the tables were written to `draft`.

    Traces of held-out rows are a table of another name, in a file of another name: a training refuses both.

    Args:
        price: of the teacher, for the column `cost`; None leaves it empty.
    """
    train = cases.split == "train"
    name = REFLECTION_FILE if train else REFERENCE_FILE
    columns = _columns(cases, dialogues, teacher)
    write_table(draft.path / name, columns, REFLECTIONS if train else REFERENCES)
    columns |= _telemetry(cases, dialogues, calls, price)
    write_table(draft.telemetry / name, columns, COSTED_REFLECTIONS if train else COSTED_REFERENCES)
    summary = summarise(cases, dialogues, teacher)
    (draft.path / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    draft.manifest["rows"] = len(cases.rows)
    draft.manifest["failed"] = sum(dialogue.failed for dialogue in dialogues)
    return summary


def summarise(cases: Cases, dialogues: Sequence[Dialogue], teacher: Teacher) -> dict[str, Any]:
    """Counts over the dialogues.

    Keys: split, accepted, rejected, reasons {reason: count}, rounds {rounds: count}, accepted_rounds (the same of accepted
    rows), right_verdicts (rows whose last verdict is the gold one), leaked (those whose trace speaks of the hint),
    prompt_tokens, completion_tokens, model, prompt_version, note.
    """
    accepted = sum(dialogue.status == "accepted" for dialogue in dialogues)
    return {
        "split": cases.split,
        "accepted": accepted,
        "rejected": len(dialogues) - accepted,
        "reasons": dict(sorted(Counter(d.reason.split(":")[0] for d in dialogues if d.reason).items())),
        "rounds": _by_rounds(dialogues),
        "accepted_rounds": _by_rounds([dialogue for dialogue in dialogues if dialogue.status == "accepted"]),
        "right_verdicts": sum(d.verdict == answer_word(d.case.label).lower() for d in dialogues),
        "prompt_tokens": sum(dialogue.prompt_tokens for dialogue in dialogues),
        "completion_tokens": sum(dialogue.completion_tokens for dialogue in dialogues),
        "leaked": sum(dialogue.leaked for dialogue in dialogues),
        "model": teacher.name,
        "prompt_version": PROMPT_VERSION,
        "note": LOCAL_NOTE if teacher.is_local else "",
    }


def _by_rounds(dialogues: Sequence[Dialogue]) -> dict[str, int]:
    return {str(rounds): count for rounds, count in sorted(Counter(d.rounds for d in dialogues).items())}


def _columns(cases: Cases, dialogues: Sequence[Dialogue], teacher: Teacher) -> dict[str, Any]:
    count = len(dialogues)
    return {
        **({} if cases.split == "train" else {"split": [cases.split] * count}),
        "row": cases.rows,
        "label": [dialogue.case.label for dialogue in dialogues],
        "verdict": [dialogue.verdict for dialogue in dialogues],
        "trace": [dialogue.trace for dialogue in dialogues],
        "answer": [dialogue.answer for dialogue in dialogues],
        "rounds": [dialogue.rounds for dialogue in dialogues],
        "hint_ids": [list(dialogue.hint_ids) for dialogue in dialogues],
        "prompt_tokens": [dialogue.prompt_tokens for dialogue in dialogues],
        "completion_tokens": [dialogue.completion_tokens for dialogue in dialogues],
        "model": [teacher.name] * count,
        "prompt_version": [PROMPT_VERSION] * count,
        "accepted": [dialogue.status == "accepted" for dialogue in dialogues],
        "reason": [dialogue.reason for dialogue in dialogues],
    }


def _telemetry(cases: Cases, dialogues: Sequence[Dialogue], calls: Calls, price: Price | None) -> dict[str, Any]:
    totals = [calls.totals[row] for row in cases.rows]
    return {
        "requests": [row.requests for row in totals],
        "reused": [row.reused for row in totals],
        "attempts": [row.attempts for row in totals],
        "seconds": [row.seconds for row in totals],
        "cost": [price.cost(d.prompt_tokens, d.completion_tokens) if price else None for d in dialogues],
    }
