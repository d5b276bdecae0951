"""Journals as one Parquet table, to hand the answers of a teacher to somebody who has no key.

A row carries the request whose hash is its key, so whoever imports it can check that the answer belongs to it. Rows are
sorted by key: equal journals give equal rows in whatever order their answers came.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.journal import Entry, Journal, canonical_json, request_key
from storage.journal_merge import Merged, merge, reply_of
from storage.new_file import new_file
from storage.schemas import JOURNAL
from storage.tables import read_table, write_table
from thinkrec_core.errors import StoreError, one_line

REPLY = ("content", "reasoning_content", "reasoning", "unreadable", "prompt_tokens", "completion_tokens")
"""Columns that are the teacher's reply."""
CALL = ("finish_reason", "seconds", "attempts")
"""Columns about the call; two of them differ between calls that got the same reply."""
FROM_EXPORT = "name a file that `thinkrec reflections export` wrote"


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        answers: rows of the table.
        models: answers by model.
        skipped: answers whose request the journal does not hold or that belong to none; they are not exported.
    """

    answers: int
    models: dict[str, int]
    skipped: int


def export_journals(root: Path, target: Path, model: str | None = None) -> Exported:
    """Write the journals of the store at `root` to `target`, which appears whole or not at all.

    Args:
        model: only the answers of this one; None for all.

    Raises:
        StoreError: there is no answer to export, or `target` exists already or cannot be written.
    """
    rows: dict[str, dict[str, Any]] = {}
    skipped = 0
    for path in sorted((root / "journal").glob("*.jsonl")):
        for entry in Journal(path).entries():
            row = _row(entry)
            if row is None:
                skipped += 1
            elif model is None or row["model"] == model:
                rows.setdefault(entry.key, row)
    if not rows:
        whose = f" of {model!r}" if model is not None else ""
        raise StoreError(f"the journals in {root} hold no answers{whose}", next_step="run `thinkrec reflections` first")
    models = [row["model"] for row in rows.values()]
    table = pa.Table.from_pylist([rows[key] for key in sorted(rows)], schema=JOURNAL)
    with new_file(target) as building:
        write_table(building, table, JOURNAL)
    return Exported(len(rows), {name: models.count(name) for name in sorted(set(models))}, skipped)


def import_journal(root: Path, source: Path) -> Merged:
    """Add the answers of `source` to the journals of the store at `root`. Nothing is added unless every row is in order.

    Raises:
        StoreError: `source` is no journal table, or a row's key is not that of its request.
    """
    rows = enumerate(_pylist(_checked(source)), 1)
    return merge(root, [_entry(row, f"{source}, row {place}") for place, row in rows])


def _row(entry: Entry) -> dict[str, Any] | None:
    """The row of one answer; None where its request is missing or is not the one that its key hashes."""
    request, reply = entry.request, reply_of(entry.answer)
    if not request or reply is None or request_key(request) != entry.key:
        return None
    return {
        "key": entry.key,
        "model": request["model"],
        "round": request.get("round", 0),
        "request": canonical_json(request),
        **asdict(reply),
        **{name: entry.answer[name] for name in CALL},
    }


def _entry(row: Mapping[str, Any], place: str) -> Entry:
    try:
        request = json.loads(row["request"])
        key = request_key(request)
        belongs = key == row["key"] and (request["model"], request.get("round", 0)) == (row["model"], row["round"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{place} holds no request ({one_line(str(error), 80)})", next_step=FROM_EXPORT) from None
    if not belongs:
        raise StoreError(f"{place} was changed: its key is not that of its request", next_step="export it again")
    return Entry(key, {"reply": {name: row[name] for name in REPLY}, **{name: row[name] for name in CALL}}, request)


def _checked(source: Path) -> pa.Table:
    try:
        return read_table(source, JOURNAL).cast(JOURNAL)
    except StoreError as error:
        raise StoreError(error.found, error.expected, FROM_EXPORT) from None
    except (OSError, ValueError) as error:  # columns of other types, or with nulls
        raise StoreError(f"{source} cannot be used ({one_line(str(error), 120)})", next_step=FROM_EXPORT) from None


def _pylist(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1000):
        yield from batch.to_pylist()
