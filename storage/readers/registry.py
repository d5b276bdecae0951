"""From the name of a source to its reader: a registered data set, or a folder in canonical form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from storage.readers import canonical, ml100k
from storage.readers.raw import RawData


@dataclass(frozen=True)
class Reader:
    """How one format is read, and how its content is named without parsing it."""

    read: Callable[[str], RawData]
    digest: Callable[[str], str]


READERS = {ml100k.NAME: Reader(ml100k.read, ml100k.digest)}
"""Data sets with a name; any other source is taken as a folder in canonical form."""
FOLDER = Reader(canonical.read, canonical.digest)


def read_source(source: str) -> RawData:
    """The checked content of `source`.

    Raises:
        DataError: the source is unknown, incomplete, or holds a value that cannot be used.
        AssetError: a pinned download is missing or damaged.
    """
    return READERS.get(source, FOLDER).read(source)


def source_digest(source: str) -> str:
    """sha256 of the files of `source`, read but not parsed.

    Raises:
        DataError: the source is unknown or a file of it is missing.
    """
    return READERS.get(source, FOLDER).digest(source)
