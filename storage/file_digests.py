"""sha256 of files; that of a large file is remembered as long as its size and modification time stay the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

LARGE = 8 * 2**20
"""Bytes from which a digest is remembered; smaller files are read faster than the memory is."""


def file_digest(path: Path) -> str:
    """The sha256 of the bytes of `path`, as hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def remembered_digest(path: Path, memory: Path) -> str:
    """The sha256 of `path`; for a large file from `memory`, a folder that may be lost at any time.

    An entry is found by (absolute path, size, modification time in ns), so whoever rewrites a file without changing any
    of the three is not noticed. A memory that cannot be written costs time only.

    Raises:
        OSError: the file cannot be read.
    """
    state = path.stat()
    if state.st_size < LARGE:
        return file_digest(path)
    identity = f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}"
    entry = memory / "digests" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(entry.read_text())
        if known["identity"] == identity:
            return str(known["sha256"])
    digest = file_digest(path)
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(entry, json.dumps({"identity": identity, "sha256": digest}))
    return digest


def joint_digest(digests: Mapping[str, str]) -> str:
    """One sha256 for files given as name -> sha256, independent of their order."""
    lines = "".join(f"{name}\0{digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def _write_whole(path: Path, text: str) -> None:
    """Write beside `path`, then rename: two processes at once leave one whole entry."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    os.replace(temporary, path)
