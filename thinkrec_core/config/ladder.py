"""The ladder of methods without a language model: which rungs, how often fitted, and the settings of each."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from thinkrec_core.config.base import Frozen
from thinkrec_core.config.encoder import KINDS, EncoderConfig

LadderRung = Literal[
    "popularity",
    "item_mean",
    "bias",
    "bias_streaming",
    "mf",
    "lightgcn",
    "sasrec",
    "din",
    "dcn",
    "own",
    "mf_published",
    "lightgcn_published",
    "sasrec_published",
    "stacker",
    "stacker_uauc",
]
ALL_LADDER_RUNGS: tuple[LadderRung, ...] = get_args(LadderRung)


class BiasConfig(Frozen):
    """Ridge penalties of the main effects; each is ridge / 2 * effect^2 beside the summed log-loss."""

    ridge_user: float = Field(2.0, gt=0)
    ridge_item: float = Field(0.5, gt=0)
    ridge_decade: float = Field(1.0, gt=0)
    """Release decade of the item."""
    ridge_user_year: float = Field(4.0, gt=0)
    """User times release year (in units of 15 years): a taste for old or new items."""
    half_life: float = Field(20.0, gt=0)
    """`bias_streaming`: earlier labels until their weight is halved."""
    ridge_streaming: float = Field(1.0, gt=0)
    """`bias_streaming`: penalty of the user's offset."""


class StackerConfig(Frozen):
    """Gradient boosting on item effects, the user's known labels and content."""

    folds: int = Field(8, ge=2)
    """User folds: item effects of a train row are fitted without that row's user."""
    replicas: int = Field(4, ge=1)
    """Copies of each train row, each with a random label cut-off (histories `liked`; labelled ones need one)."""
    unknown_users: float = Field(0.2, ge=0, le=1)
    """Share of copies that know no label of their user, as test users without train rows."""
    iterations: int = Field(250, ge=1)
    learning_rate: float = Field(0.03, gt=0)
    leaves: int = Field(8, ge=2)
    item_dimensions: int = Field(24, ge=1)
    """Length of the vectors that say which items the same users rate."""
    fit_rows: int = Field(2_000_000, ge=1)
    """Train rows, copies included, that the booster is fitted on at most: what bounds memory and time."""
    blend: float = Field(0.25, ge=0, le=1)
    """Weight of the bias model's logit in the score; the boosted logit has the rest. More of it ranks a user's own items
    better and rows of different users worse: the point on the frontier of AUC and UAUC."""
    blend_uauc: float = Field(0.5, ge=0, le=1)
    """The same weight in rung `stacker_uauc`."""


class LadderConfig(Frozen):
    """Rungs, seeds and intervals."""

    rungs: tuple[LadderRung, ...] = ("popularity", "item_mean", "bias", "mf", "lightgcn", "sasrec", "stacker")
    seeds: int = Field(3, ge=1)
    """Fits per rung that draws random numbers; figures are means over them."""
    floor: LadderRung = "bias"
    """The rung that paired differences are taken against."""
    bootstrap: int = Field(1000, ge=10)
    bias: BiasConfig = BiasConfig()
    mf: EncoderConfig = EncoderConfig(kind="mf")
    lightgcn: EncoderConfig = EncoderConfig(kind="lightgcn")
    sasrec: EncoderConfig = EncoderConfig(kind="sasrec")
    din: EncoderConfig = EncoderConfig(
        kind="din", biases=False, embedding_size=32, dropout=0.5, learning_rate=2e-3, weight_decay=3e-4
    )
    dcn: EncoderConfig = EncoderConfig(kind="dcn", biases=False, dropout=0.5, learning_rate=3e-3, weight_decay=1e-4)
    """DIN and DCN without main effects of their own: started from these, no step of theirs ever beat the start (ML-1M, valid)."""
    own: EncoderConfig | None = None
    """Rung `own`: an encoder named by its import path."""
    stacker: StackerConfig = StackerConfig()

    @model_validator(mode="after")
    def _rungs_fit_together(self) -> Self:
        if self.floor not in self.rungs:
            raise ValueError(f"ladder.floor {self.floor} is not among ladder.rungs")
        if len(set(self.rungs)) < len(self.rungs):
            raise ValueError("ladder.rungs names a rung twice")
        if "own" in self.rungs and (self.own is None or not self.own.is_own):
            raise ValueError("rung own needs ladder.own.kind, an import path package.module:Class")
        for kind in KINDS:
            if getattr(self, kind).kind != kind:
                raise ValueError(f"ladder.{kind}.kind is {getattr(self, kind).kind}, expected {kind}")
        return self


PUBLISHED: dict[str, EncoderConfig] = {
    "mf_published": EncoderConfig(kind="mf", embedding_size=256, biases=False, epochs=100, patience=20),
    "lightgcn_published": EncoderConfig(
        kind="lightgcn", embedding_size=64, layers=2, biases=False, epochs=100, patience=20
    ),
    "sasrec_published": EncoderConfig(
        kind="sasrec", embedding_size=64, layers=2, max_length=25, biases=False, epochs=100, patience=20
    ),
}
"""Sizes and layers as published, without main effects. Learning rate and weight decay are this project's: theirs were
searched per data set and are not part of the published tables."""
