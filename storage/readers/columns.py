"""Checked conversion of source columns; each failure names the file, the data row (the first is 1) and the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.readers.raw import SPLITS
from thinkrec_core.errors import DataError

Refuse = Callable[[Any, Any, str, str, str], None]
"""Called with (bad rows, values, column, file, expected): raises, or collects (`storage.readers.rejected.Refusals`)."""
LATEST_SECOND = 100_000_000_000
"""The year 5138: a larger timestamp counts milliseconds or finer."""


def take(table: pa.Table, name: str, file: str) -> pa.Array:
    """Column `name` as one plain array, dictionaries decoded.

    Raises:
        DataError: the column is missing or occurs twice.
    """
    count = table.column_names.count(name)
    if count != 1:
        found = f"{file} has no column {name}" if count == 0 else f"{file} has column {name} {count} times"
        raise DataError(found, f"one; found {', '.join(table.column_names)}"[:300], f"add or rename a column to {name}")
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def identifiers(table: pa.Table, name: str, file: str, refuse: Refuse | None = None) -> pa.Array:
    """Column `name` as non-empty strings; whole numbers become their decimal digits.

    Raises:
        DataError: a missing or empty value, or a column that is neither text nor whole numbers.
    """
    values = take(table, name, file)
    if not (_is_text(values.type) or pa.types.is_integer(values.type)):
        raise DataError(
            f"{file}: column {name} is of type {values.type}", "text or whole numbers", "convert the column"
        )
    values = values.cast(pa.string())
    (refuse or _refuse)(_unusable_id(values), values, name, file, "an id")
    return values


def numbers(table: pa.Table, name: str, file: str, refuse: Refuse | None = None) -> pa.Array:
    """Column `name` as finite float64.

    Raises:
        DataError: a value that is missing, not a number, or not finite.
    """
    values = take(table, name, file)
    if _is_text(values.type):
        direct = _as_finite(values)
        if direct is not None:
            return direct
        # Python's float() accepts "1_000" and words; the pattern does not.
        trimmed = pc.utf8_trim_whitespace(values.cast(pa.string()))
        numeric = pc.match_substring_regex(trimmed, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
        (refuse or _refuse)(pc.invert(pc.fill_null(numeric, False)), values, name, file, "a number")
        readable = pc.if_else(pc.fill_null(numeric, False), trimmed, pa.scalar(None, pa.string()))
        result = pc.utf8_ltrim(readable, "+").cast(pa.float64())
    elif pa.types.is_boolean(values.type):
        result = values.cast(pa.int8()).cast(pa.float64())
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        result = values.cast(pa.float64(), safe=False)
    else:
        raise DataError(f"{file}: column {name} is of type {values.type}", "numbers", "convert the column")
    (refuse or _refuse)(pc.invert(pc.fill_null(pc.is_finite(result), False)), values, name, file, "a finite number")
    return result


def labels(table: pa.Table, name: str, file: str, refuse: Refuse | None = None) -> pa.Array:
    """Column `name` as int8 of 0 and 1.

    Raises:
        DataError: another value.
    """
    result = numbers(table, name, file, refuse)
    known = pc.or_(pc.equal(result, 0.0), pc.equal(result, 1.0))
    (refuse or _refuse)(pc.invert(known), take(table, name, file), name, file, "0 or 1")
    return pc.if_else(known, result, pa.scalar(None, pa.float64())).cast(pa.int8())


def seconds(table: pa.Table, name: str, file: str, refuse: Refuse | None = None) -> pa.Array:
    """Column `name` as whole seconds since 1970-01-01 UTC, int64; date-time columns are converted.

    Raises:
        DataError: a value that is missing, not a whole number, or too large for seconds.
    """
    values = take(table, name, file)
    if pa.types.is_timestamp(values.type):
        (refuse or _refuse)(pc.is_null(values), values, name, file, "a time")
        return values.cast(pa.timestamp("s", values.type.tz), safe=False).cast(pa.int64())
    result = numbers(table, name, file, refuse)
    (refuse or _refuse)(pc.not_equal(pc.floor(result), result), values, name, file, "whole seconds")
    (refuse or _refuse)(
        pc.greater(pc.abs(result), float(LATEST_SECOND)), values, name, file, "seconds since 1970-01-01, not finer"
    )
    usable = pc.and_(pc.equal(pc.floor(result), result), pc.less_equal(pc.abs(result), float(LATEST_SECOND)))
    return pc.if_else(usable, result, pa.scalar(None, pa.float64())).cast(pa.int64())


def milliseconds(table: pa.Table, name: str, file: str, refuse: Refuse | None = None) -> pa.Array:
    """Column `name`, milliseconds since 1970, as whole seconds; int64.

    Raises:
        DataError: as `seconds`.
    """
    result = pc.floor(pc.divide(numbers(table, name, file, refuse), 1000.0))
    return seconds(pa.table({name: result}), name, file, refuse)


def dates(table: pa.Table, name: str, file: str, refuse: Refuse | None = None) -> pa.Array:
    """Column `name`, text such as `2018-07-07 22:09:11` (UTC), as seconds since 1970; int64.

    Raises:
        DataError: another text.
    """
    values = take(table, name, file)
    found = pc.strptime(values.cast(pa.string()), format="%Y-%m-%d %H:%M:%S", unit="s", error_is_null=True)
    (refuse or _refuse)(pc.is_null(found), values, name, file, "a time such as 2018-07-07 22:09:11")
    return found.cast(pa.int64())


def split_names(table: pa.Table, name: str, file: str, refuse: Refuse | None = None) -> pa.Array:
    """Column `name` as strings out of train, valid and test.

    Raises:
        DataError: another value.
    """
    values = take(table, name, file)
    if not _is_text(values.type):
        raise DataError(f"{file}: column {name} is of type {values.type}", f"text: {', '.join(SPLITS)}")
    values = values.cast(pa.string())
    known = pc.is_in(values, value_set=pa.array(SPLITS))
    (refuse or _refuse)(pc.invert(known), values, name, file, ", ".join(SPLITS))
    return values


def texts(table: pa.Table, name: str, file: str, required: bool) -> pa.Array:
    """Column `name` as strings; missing values become "" unless `required`.

    Raises:
        DataError: a required value is missing or blank.
    """
    values = take(table, name, file)
    if not _is_text(values.type) and not pa.types.is_null(values.type):
        raise DataError(f"{file}: column {name} is of type {values.type}", "text", "convert the column")
    values = pc.utf8_trim_whitespace(pc.fill_null(values.cast(pa.string()), ""))
    if required:
        _refuse(pc.equal(values, ""), values, name, file, "text")
    return values


def _as_finite(texts: pa.Array) -> pa.Array | None:
    """All of `texts` as finite float64 in one pass; None if one of them needs a closer look."""
    try:
        found = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return found if pc.all(pc.fill_null(pc.is_finite(found), False)).as_py() else None


def _unusable_id(values: pa.Array) -> pa.Array:
    return pc.or_kleene(pc.is_null(values), pc.or_(pc.equal(values, ""), pc.match_substring(values, "\0")))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _refuse(bad: pa.Array, values: Any, name: str, file: str, expected: str) -> None:
    """Raise for the first row where `bad` is true."""
    row = pc.index(bad, True).as_py()
    if row >= 0:
        shown = repr(values[row].as_py())[:80]
        raise DataError(f"{file}: {name} is {shown} in data row {row + 1}", expected, "correct or remove the row")
