"""A disk that is full, read-only or broken, told in one line whatever library met it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from thinkrec_core.errors import StoreError

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


@contextlib.contextmanager
def disk_faults(what: str, root: Path) -> Iterator[None]:
    """Turn a disk's refusal within the block into one line; every other error passes, and what was told already.

    Raises:
        StoreError: a write of `what` below `root` failed with no space, quota, an input/output error or a read-only disk.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        number = disk_error(error)
        if number is None:
            raise
        raise StoreError(
            f"{what} could not be written below {root} ({os.strerror(number)})",
            next_step="free space or set THINKREC_HOME, then run again; finished stages are kept",
        ) from None


def disk_error(error: BaseException) -> int | None:
    """The errno of a disk's refusal behind `error`; None if it is something else.

    Libraries written in Rust or C++ (safetensors, pyarrow) keep the number in their message only.
    """
    if isinstance(error, OSError) and error.errno in DISK:
        return error.errno
    text = str(error)
    return next((number for number in DISK if f"os error {number})" in text or os.strerror(number) in text), None)
