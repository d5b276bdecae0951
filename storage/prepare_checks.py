"""What stops a preparation beside bad rows: rows from the future, splits without rows, labels of one class."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from storage.readers.raw import SPLITS
from thinkrec_core.config.data import DAY, DataConfig
from thinkrec_core.errors import DataError


def check_future(source: str, newest: int | None, config: DataConfig, now: float | None = None) -> None:
    """Refuse rows later than a day from now, unless `not_after` says what the last day is.

    The clock decides only whether there is a result, never which: with equal fields, two days give the same tables or one
    of them an error. Rejecting such rows by the clock would let a result depend on the day on which it was made.

    Args:
        newest: the greatest timestamp, in seconds since 1970; None without rows.
        now: seconds since 1970; None asks the clock.

    Raises:
        DataError: there is such a row.
    """
    now = time.time() if now is None else now
    if newest is None or config.not_after is not None or newest <= now + DAY:
        return
    today = datetime.fromtimestamp(now, UTC).date()
    raise DataError(
        f"the newest row of {source} has the timestamp {newest}, after today ({today})",
        "rows of the past",
        f"set data.not_after to the last day of the data, such as {today}, to reject later rows",
    )


def check_splits(statistics: Mapping[str, Any], config: DataConfig) -> None:
    """Refuse what nothing can be trained or measured on.

    Raises:
        DataError: a split has no rows, or all train labels are equal.
    """
    splits = statistics["splits"]
    for split in SPLITS:
        if split not in splits:
            raise DataError(
                f"split {split} of {statistics['source']} has no rows under data.split {config.split}",
                "rows in train, valid and test",
                "use more rows or other fractions",
            )
    train = splits["train"]
    if train["positives"] in (0, train["rows"]):
        raise DataError(
            f"all {train['rows']} train labels of {statistics['source']} are {int(train['positives'] > 0)}",
            "likes and dislikes",
            f"check data.positive_threshold ({config.positive_threshold})",
        )
