"""Parquet in and out under the schemas of `storage.schemas`, with the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from thinkrec_core.errors import StoreError


def write_table(path: Path, columns: Mapping[str, Any] | pa.Table, schema: pa.Schema) -> int:
    """Write `columns` (arrays or lists per column name, or a table) to `path` as zstd Parquet; returns the row count.

    Raises:
        StoreError: a column is missing, unknown, of another type, or null where the schema allows none.
    """
    table = columns if isinstance(columns, pa.Table) else _build(columns, schema)
    table = _checked(table.cast(schema), schema, path)
    pq.write_table(table, path, compression="zstd", store_schema=True)
    return int(table.num_rows)


def read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The table at `path`, checked against `schema`; `columns` narrows what is read.

    Raises:
        StoreError: the file is missing, is not Parquet, or has other columns than the schema's.
    """
    try:
        found = pq.read_schema(path)
        if found.names[: len(schema.names)] != schema.names or found.metadata is None:
            raise StoreError(f"{path} has columns {found.names}", f"{schema.names}", "rebuild the stage that wrote it")
        for key in (b"thinkrec.table", b"thinkrec.version"):
            if found.metadata.get(key) != schema.metadata[key]:
                raise StoreError(
                    f"{path} is table {found.metadata.get(key)!r}",
                    f"{schema.metadata[key].decode()}",
                    "rebuild the stage that wrote it",
                )
        return pq.read_table(path, columns=list(columns) if columns is not None else None)
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist", "a table of an earlier stage", "rebuild that stage") from None
    except pa.ArrowInvalid as error:
        raise StoreError(
            f"{path} is not readable Parquet ({error})", next_step="rebuild the stage that wrote it"
        ) from None


def extended(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """`schema` followed by one non-null float64 column per name (score columns of predictions)."""
    extra = [pa.field(name, pa.float64(), nullable=False) for name in names]
    return pa.schema([*schema, *extra], metadata=schema.metadata)


def ragged(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(offsets (R+1,), flat values) of a list column without nulls, offsets from 0."""
    lengths = np.concatenate([np.zeros(1), *(chunk.value_lengths().to_numpy() for chunk in column.chunks)])
    values = [np.zeros(0), *(chunk.flatten().to_numpy() for chunk in column.chunks)]
    return np.cumsum(lengths).astype(np.int64), np.concatenate(values).astype(np.int64)


def _build(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    missing, unknown = set(schema.names) - set(columns), set(columns) - set(schema.names)
    if missing or unknown:
        raise StoreError(f"columns missing {sorted(missing)}, unknown {sorted(unknown)}", f"{schema.names}")
    arrays = [pa.array(columns[field.name], type=field.type, from_pandas=False) for field in schema]
    return pa.Table.from_arrays(arrays, names=schema.names)


def _checked(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise StoreError(f"{path.name}: column {field.name} holds nulls", "none")
    return table
