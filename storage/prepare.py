"""From raw interactions to labelled, split, indexed samples with histories, as Parquet; DuckDB does the work.

Tables may be larger than memory: DuckDB spills to a scratch folder, and the files are written in batches. What stays in memory
is the list of raw ids and five bytes per row (the histories).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from storage import prepare_sql as sql
from storage.prepare_checks import check_future, check_splits
from storage.prepare_files import Histories, write_prepared
from storage.prepare_statistics import history_statistics, row_statistics
from storage.readers.raw import ITEM, LABEL, RATING, SNAPSHOT, SPLIT, USER, RawData
from thinkrec_core.config.data import DataConfig
from thinkrec_core.errors import DataError
from thinkrec_core.seeds import generator

MEMORY_LIMIT = "5GB"
"""What DuckDB may hold before it spills."""
Say = Callable[[str], None]


def prepare(
    raw: RawData,
    config: DataConfig,
    seed: int,
    folder: Path,
    say: Say = lambda text: None,
    now: float | None = None,
) -> dict[str, Any]:
    """Write interactions.parquet, items.parquet and samples_{train,valid,test}.parquet to `folder`; returns statistics.

    Labels: rating >= `positive_threshold`, or the source's own. Of the rows of one (user, item) pair one stays, by
    (timestamp, file order) and `duplicates`. Then the window of the split and the k-core apply. Histories follow the
    method's data section: rows of the same user with strictly earlier timestamps, in all splits (a test row sees the
    user's earlier test rows), oldest first, the newest `max_history`. Ids are numbered after the split over all rows
    that remain; where the source consists of snapshots, over all of its rows, so that an id never changes.

    Differs: `ties="published"` also counts rows of the same timestamp that stand earlier in the file, which lets a row
    see labels of its own moment; the published tables were made so.

    Args:
        seed: the run's seed; only `max_users` draws from it.
        say: told each step in words.
        now: seconds since 1970, for rows from the future; None asks the clock.

    Returns:
        source, label_source, rows_read, rejected, rejected_reasons {expectation: rows}, filtered {reason: rows}, and
        what `storage.prepare_statistics` counts. rows_read = rows of the splits + rejected + filtered.

    Raises:
        DataError: the source has no split column but the split is `given`, a split stays empty, all train labels are
            equal, more rows are rejected than `max_rejected`, rows are of the future, or pairs repeat where that is
            an error.
    """
    if config.split == "given" and not raw.has_split:
        raise DataError(
            f"source {raw.name} has no split column",
            "one with train, valid and test",
            "set data.split to per_user or global",
        )
    eligible = "label = 1" if config.history == "liked" else "true"
    earlier = (sql.EARLIER_IN_FILE if config.ties == "published" else sql.STRICTLY_EARLIER).format(eligible=eligible)
    with _database(folder) as database:
        say("reading")
        rows_read = _load(database, raw, config, now)
        say("filtering and splitting")
        filtered = _filter(database, raw, config, seed)
        _divide(database, config)
        for table, raw_id, code, codes in (("users", USER, "u", "user_codes"), ("items", ITEM, "i", "item_codes")):
            idx, query = f"{table[:-1]}_idx", sql.KNOWN if raw.has_snapshots else sql.VOCABULARY
            database.execute(query.format(table=table, id=raw_id, code=code, codes=codes, idx=idx))
        database.execute(sql.NUMBERED)
        database.execute("DROP TABLE divided; DROP TABLE kept")
        statistics = {
            "source": raw.name,
            "label_source": "label" if raw.has_labels else "rating",
            "rows_read": rows_read,
            "rejected": raw.rejected.rows,
            "rejected_reasons": dict(sorted(raw.rejected.reasons.items())),
            "filtered": filtered,
            **row_statistics(database, raw),
        }
        if config.published is not None:
            statistics["published"] = config.published.model_dump(exclude_none=True)
        check_splits(statistics, config)
        say("histories")
        rows = database.sql(sql.HISTORY_ROWS.format(eligible=eligible)).to_arrow_table()
        counts = database.sql(sql.HISTORY_STARTS.format(eligible=eligible)).to_arrow_table()
        items, labels, per_user = (column.to_numpy() for column in (*rows.columns, counts.column(1)))
        histories = Histories.of(items, labels, per_user, config.max_history)
        del rows, counts, items, labels, per_user
        database.execute(sql.SAMPLES.format(earlier=earlier))
        database.execute("DROP TABLE numbered")
        for split, lengths in history_statistics(database, config.max_history).items():
            statistics["splits"][split] |= lengths
        say("writing")
        write_prepared(database, histories, folder)
        return statistics


@contextmanager
def _database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that spills beside the files it fills."""
    scratch = tempfile.mkdtemp(prefix=".spill-", dir=folder)
    try:
        with duckdb.connect(":memory:") as database:
            database.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
            database.execute("SET temp_directory = $folder", {"folder": scratch})
            yield database
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _load(database: duckdb.DuckDBPyConnection, raw: RawData, config: DataConfig, now: float | None) -> int:
    """Tables `kept` (u, i, label, timestamp, split, file_row), `user_codes`, `item_codes`, and `raw_items`."""
    database.register("raw_items", raw.items)
    database.register("source_rows", raw.reader())
    label = LABEL if raw.has_labels else f"CAST({RATING} >= $threshold AS TINYINT)"
    split = SPLIT if raw.has_split else "CAST(NULL AS VARCHAR)"
    snapshot = f", {SNAPSHOT}" if raw.has_snapshots else ""
    database.execute(
        f"CREATE TABLE raw AS SELECT user_id, item_id, {label} AS label, timestamp, {split} AS split, file_row{snapshot} "
        "FROM source_rows",
        {} if raw.has_labels else {"threshold": config.positive_threshold},
    )
    database.unregister("source_rows")
    rows_read = _value(database, "SELECT count(*) FROM raw") + raw.rejected.rows
    raw.rejected.check(rows_read, config.max_rejected)
    check_future(raw.name, database.execute("SELECT max(timestamp) FROM raw").fetchall()[0][0], config, now)
    if raw.has_snapshots:
        for table, raw_id in (("users", USER), ("items", ITEM)):
            database.execute(sql.KNOWN_BY_SNAPSHOT.format(table=table, id=raw_id, idx=f"{table[:-1]}_idx"))
    return rows_read


def _filter(database: duckdb.DuckDBPyConnection, raw: RawData, config: DataConfig, seed: int) -> dict[str, int]:
    """Rows that go, by reason: too late, not chosen, repeated pair, outside of the window, rare user or item."""
    removed: dict[str, int] = {}
    if raw.has_snapshots and config.before is not None:  # other sources reject such rows before any id is given
        removed["too_late"] = _value(database, sql.TOO_LATE, {"before": config.before})
    removed["users_not_sampled"] = _keep_users(database, config.max_users, seed)
    database.execute(sql.CODES.format(table="user_codes", id=USER, code="u"))
    database.execute(sql.CODES.format(table="item_codes", id=ITEM, code="i"))
    database.execute(sql.CODED)
    database.execute("DROP TABLE raw")
    database.execute(sql.REPEATED.format(order="ASC" if config.duplicates == "first" else "DESC"))
    removed["duplicates"] = _value(database, "SELECT count(*) FROM repeated WHERE place > 1")
    if removed["duplicates"] and config.duplicates == "error":
        raise DataError(
            f"{removed['duplicates']} rows of {raw.name} repeat a pair of user and item",
            "one row per pair",
            "set data.duplicates to last or first",
        )
    if removed["duplicates"]:
        database.execute(sql.DEDUPLICATED)
    removed["outside_window"] = _cut_window(database, config)
    removed["rare"] = 0
    while config.k_core > 1:
        gone = _value(database, sql.RARE, {"core": config.k_core})
        removed["rare"] += gone
        if not gone or config.k_core_passes == "once":
            break
    return removed


def _keep_users(database: duckdb.DuckDBPyConnection, max_users: int | None, seed: int) -> int:
    """Delete the rows of all users but a seeded sample of `max_users`."""
    if max_users is None:
        return 0
    users = database.sql(sql.USERS_BY_ID).to_arrow_table().column(USER)
    if len(users) <= max_users:
        return 0
    chosen = np.sort(generator(seed, "data", "max_users").choice(len(users), max_users, replace=False))
    database.register("chosen", pa.table({USER: users.take(pa.array(chosen))}))
    return _value(database, "DELETE FROM raw WHERE user_id NOT IN (FROM chosen)")


def _cut_window(database: duckdb.DuckDBPyConnection, config: DataConfig) -> int:
    if config.split == "rolling" and config.rolling is not None:
        newest = _value(database, "SELECT coalesce(max(timestamp), 0) FROM kept")
        return _value(database, sql.OUTSIDE, {"first": config.rolling.bounds(newest)[0], "until": newest + 1})
    if config.split == "global" and config.windows is not None:
        return _value(database, sql.OUTSIDE, {"first": config.windows.first, "until": config.windows.end})
    return 0


def _divide(database: duckdb.DuckDBPyConnection, config: DataConfig) -> None:
    shares = {"test_fraction": config.test_fraction, "valid_fraction": config.valid_fraction}
    if config.split == "given":
        database.execute(sql.SPLIT_GIVEN)
        return
    if config.split == "per_user":
        database.execute(sql.SPLIT_PER_USER, shares)
        return
    if config.split == "rolling" and config.rolling is not None:
        newest = _value(database, "SELECT coalesce(max(timestamp), 0) FROM kept")
        _, valid_from, test_from = config.rolling.bounds(newest)
    elif config.windows is not None and config.windows.test is None and config.ties == "published":
        database.execute(sql.SPLIT_HALVED, {"valid_from": config.windows.valid})
        return
    elif config.windows is not None:
        valid_from, test = config.windows.valid, config.windows.test
        half = {"first": valid_from, "test_fraction": 0.5, "valid_fraction": 0.5}
        test_from = test if test is not None else _bounds(database, half)[1]
    else:
        valid_from, test_from = _bounds(database, {"first": -(2**62), **shares})
    database.execute(sql.SPLIT_AT, {"valid_from": valid_from, "test_from": test_from})


def _bounds(database: duckdb.DuckDBPyConnection, values: dict[str, float]) -> tuple[int, int]:
    """First seconds of valid and of test; after the end of time where no row is left for one."""
    row = database.execute(sql.GLOBAL_BOUNDS, values).fetchall()[0]
    never = 2**62
    return (never if row[0] is None else int(row[0])), (never if row[1] is None else int(row[1]))


def _value(database: duckdb.DuckDBPyConnection, query: str, values: dict[str, Any] | None = None) -> int:
    return int(database.execute(query, values or {}).fetchall()[0][0])
