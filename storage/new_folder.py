"""A folder that appears whole or not at all, for commands that write outside the store."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thinkrec_core.errors import DataError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What a disk says that takes no more."""


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` to write into; it takes the place of `out` when the block ends without an error.

    Raises:
        DataError: `out` holds something already, or cannot be written.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {out} is there already", "a new or empty folder", "choose another or remove it")
    building = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with _told(out):
            building.mkdir(parents=True)
        try:
            yield building
        except OSError as error:
            if error.errno in FULL:  # other errors are the block's own, such as a source that cannot be read
                raise _unwritable(out, error) from None
            raise
        with _told(out):
            if out.exists():
                out.rmdir()
            os.rename(building, out)
    finally:
        shutil.rmtree(building, ignore_errors=True)


@contextmanager
def _told(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unwritable(out, error) from None


def _unwritable(out: Path, error: OSError) -> DataError:
    return DataError(f"--out {out} cannot be written ({error.strerror})", "a folder that can be written")
