"""The teacher's journal: every answer that was paid for, kept the moment it arrives.

One JSON line per answer below <store root>/journal/: {"key", "request", "answer"}. A line is written and fsynced before the
answer counts, so a crash or a rerun asks for nothing twice. The key hashes what determines an answer (model, messages,
parameters, round); the host is no part of it, so moving the same model to another address keeps the answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.durable import sync_path
from thinkrec_core.errors import StoreError


@dataclass(frozen=True)
class Entry:
    """One answered request.

    Attributes:
        key: of the request, by `request_key`.
        answer: what the teacher said, JSON-able.
        request: model, round, messages and parameters: what the key hashes.
    """

    key: str
    answer: Mapping[str, Any]
    request: Mapping[str, Any] = field(default_factory=dict)


def request_key(request: Mapping[str, Any]) -> str:
    """sha256 of `request` as canonical JSON."""
    return hashlib.sha256(canonical_json(request).encode()).hexdigest()


def canonical_json(request: Mapping[str, Any]) -> str:
    """`request` as JSON with sorted keys, no spaces, in ASCII."""
    return json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


class Journal:
    """Answers by key in one file of JSON lines; several processes may append at once.

    Args:
        path: the file; it and its folder are created with the first answer.

    Raises:
        StoreError: the file exists and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        """Lines that could not be read: torn by a crash before their answer counted, or changed since."""
        self._answers: dict[str, dict[str, Any]] = {}
        self._read_to = 0
        self._mutex = threading.Lock()
        self._refresh()

    @classmethod
    def of(cls, root: Path, model: str) -> Journal:
        """The journal of `model` in the store at `root`."""
        safe = re.sub(r"[^A-Za-z0-9.-]+", "-", model).strip("-.")[:80] or "model"
        return cls(root / "journal" / f"{safe}.jsonl")

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer under `key`, or None; answers that another process appended are seen."""
        if key not in self._answers:
            with self._mutex:
                self._refresh()
        return self._answers.get(key)

    def append(self, key: str, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The answer that counts from now on: `answer`, or an earlier one under the same key. It is on the disk."""
        return self.append_all([Entry(key, answer)])[0]

    def append_all(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """The answers that count from now on, one per entry: its own, or an earlier one under the same key.

        All of them are on the disk, by one fsync.

        Raises:
            StoreError: they cannot be written.
        """
        try:
            with self._mutex, self._opened() as descriptor:
                self._refresh()
                new: dict[str, Entry] = {}
                for entry in entries:
                    if entry.key not in self._answers:
                        new.setdefault(entry.key, entry)
                if new:
                    _append_whole(descriptor, b"".join(_line(entry) for entry in new.values()))
                    self._refresh()
        except OSError as error:
            raise StoreError(
                f"journal {self.path} cannot be written ({error.strerror})", next_step="free space or set THINKREC_HOME"
            ) from None
        return [self._answers[entry.key] for entry in entries]

    @contextlib.contextmanager
    def one_asker(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Within the block no other process asks this journal's teacher: it waits, and then finds the answers here.

        Args:
            waiting: called once where another process is asking.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def entries(self) -> Iterator[Entry]:
        """Every whole entry of the file in its order, the first of each key."""
        if not self.path.exists():
            return
        seen: set[str] = set()
        with self.path.open("rb") as handle:
            for line in handle:
                entry = _parsed(line) if line.endswith(b"\n") else None
                if entry is not None and entry.key not in seen:
                    seen.add(entry.key)
                    yield entry

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The file for appending, locked against other processes."""
        is_new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if is_new:
                sync_path(self.path.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _refresh(self) -> None:
        """Read the lines that came since the last time. A torn line is skipped: its answer never counted."""
        try:
            with self.path.open("rb") as handle:
                handle.seek(self._read_to)
                news = handle.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"journal {self.path} cannot be read ({error.strerror})") from None
        whole = news[: news.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            entry = _parsed(line)
            if entry is None:
                self.damaged += bool(line.strip())
            else:
                self._answers.setdefault(entry.key, dict(entry.answer))


def _line(entry: Entry) -> bytes:
    values = {"key": entry.key, "request": dict(entry.request), "answer": dict(entry.answer)}
    return json.dumps(values, ensure_ascii=True).encode() + b"\n"


def _parsed(line: bytes) -> Entry | None:
    try:
        values = json.loads(line)
        return Entry(values["key"], dict(values["answer"]), dict(values.get("request") or {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _append_whole(descriptor: int, lines: bytes) -> None:
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        lines = b"\n" + lines  # close the torn line of a process that died while it wrote
    written = 0
    while written < len(lines):
        written += os.write(descriptor, lines[written:])
    os.fsync(descriptor)
