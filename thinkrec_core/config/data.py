"""What the interactions are and how they are labelled, split and given histories (spec: section 1 of the method)."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Literal, Self

from pydantic import Field, model_validator

from thinkrec_core.config.base import Frozen
from thinkrec_core.config.published import PublishedSizes
from thinkrec_core.config.synthetic import SyntheticConfig

DAY = 86_400


class WindowsConfig(Frozen):
    """Three windows on one time line, by date (UTC); rows outside are filtered, from histories too."""

    train_from: date
    """First day of train."""
    valid_from: date
    """First day of valid."""
    test_from: date | None = None
    """First day of test; null halves the rows from `valid_from` on by time, all rows of a second on one side. Under
    `ties: published` the halves have equally many rows, as the published ones, and a second may be divided."""
    until: date
    """First day after test."""

    @property
    def first(self) -> int:
        """`train_from` in seconds since 1970."""
        return _second(self.train_from)

    @property
    def valid(self) -> int:
        """`valid_from` in seconds since 1970."""
        return _second(self.valid_from)

    @property
    def test(self) -> int | None:
        """`test_from` in seconds since 1970, or None."""
        return None if self.test_from is None else _second(self.test_from)

    @property
    def end(self) -> int:
        """`until` in seconds since 1970."""
        return _second(self.until)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        days = [day for day in (self.train_from, self.valid_from, self.test_from, self.until) if day is not None]
        if days != sorted(set(days)):
            raise ValueError(f"windows begin at {', '.join(map(str, days))}, which do not rise")
        return self


class RollingConfig(Frozen):
    """Windows in days that end with the newest row: for reruns on growing data."""

    train_days: int = Field(365, ge=1)
    """Length of train."""
    valid_days: int = Field(30, ge=1)
    """Length of valid."""
    test_days: int = Field(30, ge=1)
    """Length of test."""

    def bounds(self, newest: int) -> tuple[int, int, int]:
        """First seconds of train, valid and test where the newest row has the timestamp `newest`."""
        test = newest + 1 - self.test_days * DAY
        valid = test - self.valid_days * DAY
        return valid - self.train_days * DAY, valid, test


class DataConfig(Frozen):
    """Source, labels, split and histories."""

    source: str = "ml-100k"
    """`ml-100k` (the hash-pinned embedded data set), `synthetic` (made up by `data.synthetic`), or a folder or file of one of
    the formats, such as interactions.{parquet,csv} and items.{parquet,csv} in canonical column names, or a data set of
    snapshots that `thinkrec data append` fills."""

    synthetic: SyntheticConfig = SyntheticConfig()
    """What the source `synthetic` draws."""

    history: Literal["liked", "labelled"] = "labelled"
    """`liked`: earlier liked items only (CoLLM). `labelled`: all earlier items with their labels (ThinkRec)."""

    positive_threshold: float = 4.0
    """label = rating >= positive_threshold; unused where the source has labels."""

    split: Literal["per_user", "global", "given", "rolling"] = "per_user"
    """`per_user`: each user's last rows by time; `global`: one time line for all users, by fraction or by `windows`;
    `given`: the source's column; `rolling`: days that end with the newest row."""

    windows: WindowsConfig | None = None
    """Dates of the `global` split; null divides by the fractions."""

    rolling: RollingConfig | None = None
    """Days of the `rolling` split."""

    format: str = "auto"
    """Format of `source`, as `thinkrec data prepare --format` takes it; `auto` looks at the files."""

    columns: dict[str, str] = Field({})
    """Names in a `table` source: {user: uid, item: iid, ...}."""

    duplicates: Literal["last", "first", "error"] = "last"
    """Which row of a repeated (user, item) pair stays, by time."""

    k_core: int = Field(0, ge=0)
    """Keep users and items with at least this many rows (after duplicates and window); 0 keeps all."""

    k_core_passes: Literal["iterative", "once"] = "iterative"
    """`iterative`: until nothing changes; `once`: counts before filtering, as the published Books and Yelp tables."""

    max_rejected: float = Field(0.01, ge=0, le=1)
    """Largest share of rows that may be rejected as unusable before the stage stops."""

    not_after: date | None = None
    """Rows after this day (UTC) are rejected (of a data set of snapshots: filtered, and their ids stay). Without it, rows
    later than tomorrow stop the preparation: a result must not depend on the day on which it was made."""

    published: PublishedSizes | None = None
    """Sizes to compare with; a difference is a warning in the data report."""

    keywords: Literal["source", "teacher"] = "source"
    """`source`: genres, categories or keywords as they are; `teacher`: a stage of its own in which `teacher` condenses
    descriptions, and lists of more than ten categories, to at most ten keywords."""

    valid_fraction: float = Field(0.1, gt=0, lt=0.5)
    """Share of rows for validation (per user or of all rows by time)."""

    test_fraction: float = Field(0.1, gt=0, lt=0.5)
    """Share of rows for the test (per user or of all rows by time)."""

    max_history: int = Field(50, ge=1)
    """Newest history items stored per row; the LLM reads the last `llm.max_history` of them."""

    ties: Literal["strict", "published"] = "strict"
    """`strict`: a history holds strictly earlier timestamps only. `published` [compat]: equal timestamps of a user count
    as earlier in file row order, as the published tables have it; such rows leak labels of the same moment."""

    max_users: int | None = Field(None, ge=10)
    """Keep a seeded sample of this many users (quick looks); null keeps all."""

    @property
    def before(self) -> int | None:
        """First second that a row may not have any more, since 1970; None without `not_after`."""
        return None if self.not_after is None else _second(self.not_after) + DAY

    @model_validator(mode="after")
    def _split_fits(self) -> Self:
        if (self.split == "rolling") != (self.rolling is not None):
            raise ValueError(f"split is {self.split} but rolling is {self.rolling}: give both or neither")
        if self.windows is not None and self.split != "global":
            raise ValueError(f"windows belong to the split global, not {self.split}")
        return self

    @model_validator(mode="after")
    def _fractions_leave_train_rows(self) -> Self:
        if self.valid_fraction + self.test_fraction > 0.8:
            raise ValueError(
                f"valid_fraction {self.valid_fraction} + test_fraction {self.test_fraction} leave less than 20% to train on"
            )
        return self


def _second(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
