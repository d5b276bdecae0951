"""Lists of all users: parts that appear whole, a rerun that goes on, and settings that must stay the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.batch_lists import PART_USERS, Lists
from thinkrec_core.errors import DataError

USERS = [f"u{number}" for number in range(2 * PART_USERS + 7)]


class Ranker:
    """Lists without a model; it stops, as a killed process does, after `limit` users."""

    def __init__(self, limit: int = 10_000) -> None:
        self.user_ids = USERS
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


def lists(out: Path, digest: str = "d", top_k: int = 2) -> Lists:
    return Lists(out, digest, len(USERS), top_k, 5)


def written(out: Path, ranker: Any, parts: list[int] | None = None) -> None:
    asked = lists(out)
    with asked.claimed():
        asked.write(ranker, asked.missing() if parts is None else parts)


def test_a_stopped_run_goes_on_and_gives_the_files_of_an_undisturbed_one(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "a", Ranker(limit=PART_USERS + 3))
    assert [path.name for path in (tmp_path / "a").glob("*.parquet")] == ["part-00000.parquet"]
    asked, again = lists(tmp_path / "a"), Ranker()
    assert (asked.missing(), asked.users_of(asked.missing())) == ([1, 2], PART_USERS + 7)
    written(tmp_path / "a", again)
    assert again.asked == USERS[PART_USERS:]
    for part in (2, 0, 1):  # by whom and in what order does not matter
        written(tmp_path / "b", Ranker(), [part])
    for path in sorted((tmp_path / "b").glob("part-*")):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    parts = [pq.read_table(path) for path in sorted((tmp_path / "a").glob("part-*"))]
    assert pa.concat_tables(parts).column("user_id").unique().to_pylist() == USERS
    assert asked.rows() == 2 * len(USERS)


def test_lists_of_other_settings_or_other_files_are_not_mixed(tmp_path: Path) -> None:
    written(tmp_path / "a", Ranker())
    for other in (lists(tmp_path / "a", digest="e"), lists(tmp_path / "a", top_k=3)):
        with pytest.raises(DataError, match="lists of another bundle or other settings"), other.claimed():
            pass
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "own.parquet").touch()
    with pytest.raises(DataError, match="holds other Parquet files"), lists(tmp_path / "c").claimed():
        pass


def test_two_commands_do_not_write_the_same_lists(tmp_path: Path) -> None:
    with (
        lists(tmp_path / "a").claimed(),
        pytest.raises(DataError, match="another process writes to --out"),
        lists(tmp_path / "a").claimed(),
    ):
        pass


def test_nothing_is_written_after_a_stop(tmp_path: Path) -> None:
    asked, ranker = lists(tmp_path / "a"), Ranker()
    with asked.claimed():
        asked.write(ranker, asked.missing(), lambda: len(ranker.asked) > PART_USERS + 1)  # type: ignore[arg-type]
    assert asked.missing() == [1, 2]
    assert len(ranker.asked) == PART_USERS + 2


def test_a_damaged_part_is_told(tmp_path: Path) -> None:
    written(tmp_path / "a", Ranker())
    lists(tmp_path / "a").path(1).write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be written or read"):
        lists(tmp_path / "a").rows()
