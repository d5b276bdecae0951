"""Top-k lists for all users of a bundle, as Parquet in parts: each part appears whole, and a rerun goes on with those that lack.

A part depends on the bundle, the settings and its users alone, so it does not matter which process writes it, or in what order.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.durable import replace_whole, write_whole
from thinkrec_core.errors import DataError

if TYPE_CHECKING:
    from tasks.recommender import Recommender

PART_USERS = 50
"""Users per part: what a killed process loses at most."""
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


@dataclass(frozen=True)
class Lists:
    """Lists that are asked for: part-00000.parquet, ... and lists.json in a folder."""

    out: Path
    digest: str
    """Of the bundle."""
    users: int
    """All users of the bundle."""
    top_k: int
    candidates: int
    part_users: int = PART_USERS

    @property
    def parts(self) -> range:
        """Numbers of all parts."""
        return range(-(-self.users // self.part_users))

    def path(self, part: int) -> Path:
        """The file of `part`."""
        return self.out / f"part-{part:05d}.parquet"

    def missing(self) -> list[int]:
        """Numbers of the parts that are not there."""
        return [part for part in self.parts if not self.path(part).is_file()]

    def users_of(self, parts: Iterable[int]) -> int:
        """How many users `parts` hold."""
        return sum(min(self.part_users, self.users - part * self.part_users) for part in parts)

    def rows(self) -> int:
        """Rows of all parts.

        Raises:
            DataError: a part is missing or no Parquet file.
        """
        with _told(self.out):
            return sum(pq.read_metadata(self.path(part)).num_rows for part in self.parts)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """The folder, for one command alone.

        Raises:
            DataError: it holds lists of another bundle or other settings, another command writes to it, or it cannot be written.
        """
        with _told(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            lock = (self.out / ".lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError(
                    f"another process writes to --out {self.out}", next_step="wait for it, or choose another folder"
                ) from None
            with _told(self.out):
                self._check()
            yield

    def write(
        self, recommender: Recommender, parts: Iterable[int], stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Write those of `parts` that are not there.

        Args:
            stopped: asked before each user; once it says so, nothing more is written.

        Raises:
            DataError: the folder cannot be written.
        """
        for part in parts:
            if self.path(part).is_file():
                continue
            rows: list[dict[str, Any]] = []
            for user in recommender.user_ids[part * self.part_users : (part + 1) * self.part_users]:
                if stopped():
                    return
                rows += _rows(recommender, user, self.top_k, self.candidates)
            partial = self.out / f".part-{part:05d}.partial"
            with _told(self.out):
                pq.write_table(pa.Table.from_pylist(rows, SCHEMA), partial, compression="zstd")
                replace_whole(partial, self.path(part))

    def _check(self) -> None:
        settings = {
            "bundle": self.digest,
            "top_k": self.top_k,
            "candidates": self.candidates,
            "users": self.users,
            "part_users": self.part_users,
        }
        path = self.out / SETTINGS
        if not path.is_file():
            if any(self.out.glob("*.parquet")):
                raise DataError(f"--out {self.out} holds other Parquet files", "a new or empty folder")
            write_whole(path, json.dumps(settings, indent=1) + "\n")
        elif json.loads(path.read_text(encoding="utf-8")) != settings:
            raise DataError(
                f"--out {self.out} holds lists of another bundle or other settings",
                "the same ones, to go on",
                "choose another folder",
            )


def use_threads(count: int) -> None:
    """Let PyTorch use `count` CPU threads in this thread."""
    import torch

    torch.set_num_threads(count)


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """Errors of the file system, in one line."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"--out {out} cannot be written or read ({error})"[:200], "a folder of lists") from None


def _rows(recommender: Recommender, user: str, top_k: int, candidates: int) -> list[dict[str, Any]]:
    found = recommender.recommend(recommender.user(user), top_k, candidates)
    return [{"user_id": user, **{name: row[name] for name in SCHEMA.names[1:]}} for row in found]
