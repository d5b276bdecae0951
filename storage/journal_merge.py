"""Answers from elsewhere, from a file or a batch, into the journals that they belong to; what is there already stays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.journal import Entry, Journal
from thinkrec_core.reflection.trace import Reply

BATCH = 1000
"""Answers that are appended by one fsync."""


@dataclass
class Merged:
    """What became of the answers.

    Attributes:
        added: answers that were new here.
        known: answers that were here already.
        differing: keys whose answer here is another one; the one here stays. Latency alone makes no other answer.
    """

    added: int = 0
    known: int = 0
    differing: list[str] = field(default_factory=list)


def merge(root: Path, entries: Iterable[Entry]) -> Merged:
    """Add `entries` to the journals of the store at `root`.

    Raises:
        StoreError: a journal cannot be written.
    """
    by_journal: dict[str, list[Entry]] = {}
    for entry in entries:
        by_journal.setdefault(journal_name(entry.request), []).append(entry)
    merged = Merged()
    for name, own in by_journal.items():
        journal = Journal.of(root, name)
        for start in range(0, len(own), BATCH):
            batch = own[start : start + BATCH]
            fresh = {entry.key for entry in batch if entry.key not in journal}
            for entry, kept in zip(batch, journal.append_all(batch), strict=True):
                if reply_of(kept) != reply_of(entry.answer):
                    merged.differing.append(entry.key)
                elif entry.key in fresh:
                    merged.added += 1
                    fresh.discard(entry.key)
                else:
                    merged.known += 1
    return merged


def journal_name(request: Mapping[str, Any]) -> str:
    """The name of the journal that `request` belongs to: that of the dialogues with its model, or of another task of it."""
    other = "round" not in request and "task" in request
    return f"{request['model']}-{request['task']}" if other else str(request["model"])


def reply_of(answer: Mapping[str, Any]) -> Reply | None:
    """The teacher's reply in what a journal keeps, whichever fields it had when it was kept; None if it is none."""
    try:
        return Reply(**answer["reply"])
    except (KeyError, TypeError):
        return None
