"""The teacher's journal: every answer that was paid for, kept the moment it arrives.

One JSON line per answer below <store root>/journal/. A line is written and fsynced before the answer counts, so a crash or
a rerun asks for nothing twice. The key hashes what determines an answer (model, messages, parameters, round); the host is
no part of it, so moving the same model to another address keeps the answers.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinkrec_core.errors import StoreError


def request_key(request: Mapping[str, Any]) -> str:
    """sha256 of `request` as canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """Answers by key in one file of JSON lines; several processes may append at once.

    Args:
        path: the file; it and its folder are created with the first answer.

    Raises:
        StoreError: the file exists and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[str, dict[str, Any]] = {}
        self._read_to = 0
        self._refresh()

    @classmethod
    def of(cls, root: Path, model: str) -> Journal:
        """The journal of `model` in the store at `root`."""
        safe = re.sub(r"[^A-Za-z0-9.-]+", "-", model).strip("-.")[:80] or "model"
        return cls(root / "journal" / f"{safe}.jsonl")

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer under `key`, or None; answers that another process appended are seen."""
        if key not in self._answers:
            self._refresh()
        return self._answers.get(key)

    def append(self, key: str, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The answer that counts from now on: `answer`, or an earlier one under the same key. It is on the disk.

        Raises:
            StoreError: the line cannot be written.
        """
        line = json.dumps({"key": key, "answer": dict(answer)}, ensure_ascii=True).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                self._refresh()
                if key not in self._answers:
                    _append_whole(descriptor, line)
                    self._refresh()
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(
                f"journal {self.path} cannot be written ({error.strerror})", next_step="free space or set THINKREC_HOME"
            ) from None
        return self._answers[key]

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
            try:
                entry = json.loads(line)
                key, answer = entry["key"], dict(entry["answer"])
            except (ValueError, KeyError, TypeError):
                continue
            self._answers.setdefault(key, answer)


def _append_whole(descriptor: int, line: bytes) -> None:
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line  # close the torn line of a process that died while it wrote
    written = 0
    while written < len(line):
        written += os.write(descriptor, line[written:])
    os.fsync(descriptor)
