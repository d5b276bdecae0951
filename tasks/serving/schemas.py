"""Requests and responses of the server; what does not fit them is answered 422."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_ROWS = 256
MOST_CANDIDATES = 1000
MOST_LIKED = 100
Name = Annotated[str, Field(min_length=1, max_length=512)]


class Model(BaseModel):
    """Unknown fields are mistakes, and numbers are no strings."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Rated(Model):
    """An item of a history."""

    item_id: Name
    label: Annotated[int, Field(ge=0, le=1)]
    """1 liked, 0 not."""


class Person(Model):
    """A user of the data, or somebody with liked titles."""

    user_id: Name | None = None
    liked: Annotated[list[Name], Field(min_length=1, max_length=MOST_LIKED)] | None = None
    """Titles, oldest first."""
    history: Annotated[list[Rated], Field(max_length=1000)] | None = None
    """Of a known user, oldest first; by default the newest that the bundle holds."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.user_id is None) == (self.liked is None):
            raise ValueError("name either user_id or liked")
        if self.history is not None and self.user_id is None:
            raise ValueError("history belongs to a user_id")
        return self


class Wanted(Person):
    """Whom to recommend to, and how much."""

    top_k: Annotated[int, Field(ge=1, le=100)] = 10
    candidates: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] = 200
    """Items that the encoder chooses for the LLM to rank."""


class Pair(Person):
    """A person and an item."""

    item_id: Name


class Pairs(Model):
    """Rows to score."""

    rows: Annotated[list[Pair], Field(min_length=1, max_length=MOST_ROWS)]


class Recommendation(Model):
    """One row of a list."""

    rank: int
    item_id: str
    title: str
    score: float
    """Logit; above 0 the verdict is Yes."""
    probability: float
    encoder_score: float
    encoder_rank: int
    """Rank by the encoder among the candidates."""
    strongest: list[str]
    """Titles of the history that are nearest to the item."""


class Routed(Model):
    """How experts speak for somebody."""

    bundle: str
    route: str
    gates: dict[str, float]


class Recommended(Routed):
    """A list, best first."""

    recommendations: list[Recommendation]


class Score(Model):
    """One scored row."""

    score: float
    encoder_score: float
    llm_score: float


class Scores(Model):
    """Scored rows in the order of the request."""

    bundle: str
    scores: list[Score]


class HistoryItem(Model):
    """An item that somebody has rated."""

    item_id: str
    title: str
    label: int


class Profile(Routed):
    """What the bundle knows of somebody."""

    name: str
    history: list[HistoryItem]
    """Newest first, at most 100."""
    position: tuple[float, float] | None
    """On the map of /map; none for strangers."""


class ClusterMap(Model):
    """Two principal components of users' vectors: a sample of at most 1000 known users."""

    cluster: list[int]
    x: list[float]
    y: list[float]


class Names(Model):
    """Ids or titles that contain what was typed, at most 20."""

    names: list[str]


class Health(Model):
    """How the server is."""

    status: str
    """ok, or stopping."""
    bundle: str
    """Run of the bundle that is served."""
    digest: str
    reload_error: str | None
    """Why the newest bundle is not served, if it is not."""


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str
