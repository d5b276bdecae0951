"""Files of a source as a stream of tables: delimited text, JSON lines (both also .gz) and Parquet.

Values of text files stay text, so that a bad one can be named. A row that cannot even be parsed goes to `rejected`.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from storage.readers.rejected import Rejected
from thinkrec_core.errors import DataError, one_line

CHUNK_ROWS = 200_000
BLOCK_BYTES = 8 * 2**20
"""Bytes parsed at a time; no row may be longer."""
MOST_EXPANSION, SMALL = 200, 64 * 2**20
"""A compressed file may grow to 200 times its size, or to 64 MiB: text grows about tenfold, a bomb a thousandfold."""
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Part:
    """One file of a source and how its columns are called."""

    path: Path
    columns: Mapping[str, tuple[str, ...]]
    """Canonical name -> names that the file may use; the first one found counts. Tables of JSON lines bear the canonical names."""
    kind: str = "csv"
    """csv, jsonl or parquet."""
    delimiter: str = ","
    """One character, or `::`."""
    names: tuple[str, ...] = ()
    """Column names of a text file without a header."""
    typed_header: bool = False
    """The header is name:type, as RecBole writes it."""
    quoted: bool = True
    """Whether a double quote starts a quoted value."""
    milliseconds: bool = False
    """Whether timestamps count milliseconds."""


def tables(part: Part, rejected: Rejected) -> Iterator[pa.Table]:
    """The rows of `part`, some at a time.

    Raises:
        DataError: the file is missing, empty, or damaged.
    """
    path = part.path
    kind = "JSON lines file" if part.kind == "jsonl" else f"{part.kind} table"
    try:
        if not path.is_file():
            raise DataError(f"{path} is not a file", "a file that can be read")
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty (0 bytes)", "a header and rows", "check data.source")
        rows = 0
        reader = {"csv": _delimited, "jsonl": _json_lines, "parquet": _parquet}[part.kind]
        for table in reader(part, rejected):
            rows += table.num_rows
            yield table
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        told = one_line(str(error), 200)
        raise DataError(f"{path.name} cannot be read ({told})", f"a {kind}", "check the file") from None
    if rows == 0 and rejected.rows == 0:
        raise DataError(f"{path.name} has no rows, only a header", "at least one row")


class _Source(io.RawIOBase):
    """The bytes of a text file: unpacked within a bound, without BOM, `::` as tab."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._file: Any = gzip.open(part.path) if part.path.suffix == ".gz" else part.path.open("rb")  # noqa: SIM115
        self._most = max(part.path.stat().st_size * MOST_EXPANSION, SMALL)
        self._seen, self._first = 0, True

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes, whole lines where `::` is replaced."""
        # Eight bytes less than asked for: the completion of a "::" below must fit as well.
        data = self._file.read(BLOCK_BYTES // 2 if size < 0 else max(size - 8, 1))
        self._seen += len(data)
        if self._part.path.suffix == ".gz" and self._seen > self._most:
            raise DataError(
                f"{self._part.path.name} unpacks to more than {self._most} bytes", "text", "unpack it first"
            )
        if self._first and data:
            data, self._first = data.removeprefix(BOM), False
        if self._part.delimiter != "::":
            return bytes(data)
        # A "::" must not be cut in two between blocks.
        if data.endswith(b":"):
            data += self._file.read(1)
        return bytes(data.replace(b"::", b"\t"))

    def close(self) -> None:
        """Close the file below."""
        self._file.close()
        super().close()


def _delimited(part: Part, rejected: Rejected) -> Iterator[pa.Table]:
    with _Source(part) as source:
        first = source.read(BLOCK_BYTES // 2)
        delimiter = "\t" if part.delimiter == "::" else part.delimiter
        names = list(part.names) or _header(first, delimiter, part)
        joined = _Joined(first, source)
        if not part.names and not first.partition(b"\n")[2].strip():
            return

        def invalid(row: csv.InvalidRow) -> str:
            place = (row.number or 0) - (0 if part.names else 1)
            found = f"line {one_line(row.text, 60)!r} has {row.actual_columns} columns"
            rejected.add(part.path.name, place, found, f"{len(names)} columns")
            return "skip"

        reader = csv.open_csv(
            pa.PythonFile(joined, mode="r"),
            read_options=csv.ReadOptions(
                use_threads=False,
                block_size=BLOCK_BYTES,
                column_names=names,
                skip_rows=0 if part.names else 1,
            ),
            parse_options=csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if part.quoted else False,
                newlines_in_values=part.quoted,
                invalid_row_handler=invalid,
            ),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=False
            ),
        )
        for batch in reader:
            yield pa.table([_decoded(column) for column in batch.columns], names=batch.schema.names)


class _Joined(io.RawIOBase):
    """`first`, then the rest of `source`."""

    def __init__(self, first: bytes, source: _Source) -> None:
        self._first, self._source = first, source

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        if self._first:
            size = len(self._first) if size < 0 else size
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._source.read(size)


def _header(first: bytes, delimiter: str, part: Part) -> list[str]:
    line = first.split(b"\n", 1)[0].rstrip(b"\r").decode("utf-8", "replace")
    names = [name.strip().strip('"') for name in line.split(delimiter)]
    return [name.split(":")[0] for name in names] if part.typed_header else names


def _decoded(column: pa.Array) -> pa.Array:
    """`column` as UTF-8; a value in another encoding is read as Latin-1."""
    try:
        column.validate(full=True)
        return column
    except pa.ArrowInvalid:
        return pa.array([_text(value) for value in column.cast(pa.binary()).to_pylist()], pa.string())


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _json_lines(part: Part, rejected: Rejected) -> Iterator[pa.Table]:
    wanted = part.columns
    rows: dict[str, list[str | None]] = {name: [] for name in wanted}
    with io.BufferedReader(_Raw(_Source(part)), BLOCK_BYTES) as lines:
        for number, line in enumerate(lines, 1):
            found = _object(line)
            if found is None:
                if line.strip():
                    rejected.add(part.path.name, number, f"line {_text(line)[:40]!r}", "one JSON object")
                continue
            for name, alternatives in wanted.items():
                rows[name].append(_cell(next((found[a] for a in alternatives if found.get(a) is not None), None)))
            if len(rows[next(iter(rows))]) == CHUNK_ROWS:
                yield pa.table({name: pa.array(values, pa.string()) for name, values in rows.items()})
                rows = {name: [] for name in wanted}
    if rows[next(iter(rows))]:
        yield pa.table({name: pa.array(values, pa.string()) for name, values in rows.items()})


class _Raw(io.RawIOBase):
    """`read` as `readinto`, for a buffered reader."""

    def __init__(self, source: _Source) -> None:
        self._source = source

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`."""
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        # Metadata of the 2014 Amazon reviews are Python literals.
        try:
            found = ast.literal_eval(line.decode("utf-8").strip()) if len(line) < 2**20 else None
        except (ValueError, SyntaxError, RecursionError, MemoryError, UnicodeDecodeError):
            return None
    return found if isinstance(found, dict) else None


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        flat = [part for entry in value for part in (entry if isinstance(entry, list) else [entry])]
        return "|".join(dict.fromkeys(str(part) for part in flat))
    return str(int(value)) if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)


def _parquet(part: Part, rejected: Rejected) -> Iterator[pa.Table]:
    with pq.ParquetFile(part.path) as file:
        names = {name for names in part.columns.values() for name in names}
        wanted = [name for name in file.schema_arrow.names if name in names]
        if not wanted:
            wanted = file.schema_arrow.names
        for batch in file.iter_batches(CHUNK_ROWS, columns=wanted):
            yield pa.Table.from_batches([batch])
