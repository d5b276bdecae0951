"""Top-k lists for all users of a bundle, as Parquet in parts: each part appears whole, and a rerun goes on after the last one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from thinkrec_core.errors import DataError

if TYPE_CHECKING:
    from tasks.recommender import Recommender

PART_USERS = 50
"""Users per part: what a killed run loses at most."""
SETTINGS = "lists.json"
SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("encoder_score", pa.float64(), nullable=False),
        pa.field("encoder_rank", pa.int32(), nullable=False),
    ],
    metadata={"thinkrec.table": "lists", "thinkrec.version": "1"},
)
"""user_id; rank from 1; the item; the LLM's score; the encoder's logit and its rank among the candidates."""


def write_lists(
    recommender: Recommender, out: Path, top_k: int, candidates: int, advance: Callable[[int], None]
) -> dict[str, int]:
    """Write part-00000.parquet, ... and lists.json to `out`; returns users, rows, and users found done.

    Args:
        advance: told how many users are done.

    Raises:
        DataError: `out` holds lists of another bundle or other settings, or cannot be written.
    """
    users = recommender.user_ids
    settings = {"bundle": recommender.bundle.digest, "top_k": top_k, "candidates": candidates, "users": len(users)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        _claim(out, settings)
        rows = done = 0
        for number, start in enumerate(range(0, len(users), PART_USERS)):
            path, part = out / f"part-{number:05d}.parquet", users[start : start + PART_USERS]
            if path.is_file():
                done += len(part)
                rows += pq.read_metadata(path).num_rows
            else:
                rows += _write(path, [row for user in part for row in _rows(recommender, user, top_k, candidates)])
            advance(start + len(part))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"--out {out} cannot be written ({error})"[:200], "a folder that can be written") from None
    return {"users": len(users), "rows": rows, "found_done": done}


def _claim(out: Path, settings: dict[str, Any]) -> None:
    path = out / SETTINGS
    if not path.is_file():
        if any(out.glob("*.parquet")):
            raise DataError(f"--out {out} holds other Parquet files", "a new or empty folder")
        path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != settings:
        raise DataError(
            f"--out {out} holds lists of another bundle or other settings",
            "the same ones, to go on",
            "choose another folder",
        )


def _rows(recommender: Recommender, user: str, top_k: int, candidates: int) -> list[dict[str, Any]]:
    found = recommender.recommend(recommender.user(user), top_k, candidates)
    return [{"user_id": user, **{name: row[name] for name in SCHEMA.names[1:]}} for row in found]


def _write(path: Path, rows: list[dict[str, Any]]) -> int:
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), partial, compression="zstd")
    os.replace(partial, path)
    return len(rows)
