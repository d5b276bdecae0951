"""Lists of all users: parts that appear whole, a rerun that goes on, and settings that must stay the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.batch_lists import PART_USERS, write_lists
from thinkrec_core.errors import DataError

USERS = [f"u{number}" for number in range(2 * PART_USERS + 7)]


class Ranker:
    """Lists without a model; it stops, as a killed process does, after `limit` users."""

    def __init__(self, limit: int = 10_000, digest: str = "d") -> None:
        self.user_ids, self.bundle = USERS, SimpleNamespace(digest=digest)
        self.asked: list[str] = []
        self._limit = limit

    def user(self, raw: str) -> str:
        return raw

    def recommend(self, reader: str, top_k: int, candidates: int) -> list[dict[str, Any]]:
        if len(self.asked) == self._limit:
            raise KeyboardInterrupt
        self.asked.append(reader)
        row = {"title": f"<{reader}>", "score": 0.5, "encoder_score": 0.1, "encoder_rank": 1, "strongest": []}
        return [{"rank": rank, "item_id": f"i{rank}", **row} for rank in range(1, top_k + 1)]


def test_a_stopped_run_goes_on_and_gives_the_files_of_an_undisturbed_one(tmp_path: Path) -> None:
    stopped, told = Ranker(limit=PART_USERS + 3), []
    with pytest.raises(KeyboardInterrupt):
        write_lists(stopped, tmp_path / "a", 2, 5, told.append)  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "a").glob("*.parquet")] == ["part-00000.parquet"]
    again = Ranker()
    found = write_lists(again, tmp_path / "a", 2, 5, told.append)  # type: ignore[arg-type]
    assert found == {"users": len(USERS), "rows": 2 * len(USERS), "found_done": PART_USERS}
    assert again.asked == USERS[PART_USERS:]
    write_lists(Ranker(), tmp_path / "b", 2, 5, told.append)  # type: ignore[arg-type]
    for path in sorted((tmp_path / "b").glob("part-*")):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    parts = [pq.read_table(path) for path in sorted((tmp_path / "a").glob("part-*"))]
    assert pa.concat_tables(parts).column("user_id").unique().to_pylist() == USERS


def test_lists_of_other_settings_or_other_files_are_not_mixed(tmp_path: Path) -> None:
    write_lists(Ranker(), tmp_path / "a", 2, 5, lambda done: None)  # type: ignore[arg-type]
    for other, top_k in ((Ranker(digest="e"), 2), (Ranker(), 3)):
        with pytest.raises(DataError, match="lists of another bundle or other settings"):
            write_lists(other, tmp_path / "a", top_k, 5, lambda done: None)  # type: ignore[arg-type]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "own.parquet").touch()
    with pytest.raises(DataError, match="holds other Parquet files"):
        write_lists(Ranker(), tmp_path / "c", 2, 5, lambda done: None)  # type: ignore[arg-type]
