"""A file that appears whole or not at all, for commands that write outside the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.durable import sync_path
from thinkrec_core.errors import StoreError


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to; it takes the name of `target`, on the disk, when the block ends without an error.

    Raises:
        StoreError: `target` exists already, or cannot be written.
    """
    if target.exists():
        raise StoreError(f"{target} is there already", "the name of a new file", "choose another or remove it")
    building = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            yield building
            sync_path(building)
            os.rename(building, target)
        finally:
            building.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{target} cannot be written ({error.strerror})", "a file in a folder that is there") from None
