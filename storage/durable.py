"""What is written reaches the disk before anything relies on it."""

from __future__ import annotations

import os
from pathlib import Path


def sync_path(path: Path) -> None:
    """Flush the file or the folder `path` to the disk; of a folder, the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` so that whoever reads it, after a crash too, finds the old or the new text and no half of one."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    replace_whole(partial, path)


def replace_whole(partial: Path, path: Path) -> None:
    """Put the finished file `partial` in the place of `path`, on the disk before its name is."""
    sync_path(partial)
    os.replace(partial, path)
    sync_path(path.parent)
