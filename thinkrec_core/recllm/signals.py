"""What a soft token is made from: the encoder's vector of its entity and the scalars of its sample.

Vectors are standardised per dimension over the entities that occur in train; scalars over the train rows. An MF vector with
entries of .01 would otherwise reach the projector's ReLU as nothing but noise.

Differs: the paper feeds the vector alone. A vector hides the strongest signal, the main effects, in a direction that a small
projector must first find; the scalars hand it over. `inputs="vectors"` gives the paper's input.

Vectors, biases and counts of a train row were fitted on that row's own label: a training long enough learns to read the label
back from them, and knows nothing of later rows (docs/results.md has the figures). `inputs="out_of_fold"` leaves the projector
only what was made without the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from thinkrec_core.config.llm import ProjectorInputs
from thinkrec_core.errors import DataError
from thinkrec_core.recllm.prompt import Slot
from thinkrec_core.recllm.records import Samples

Float32 = npt.NDArray[np.float32]

SCALARS = (
    "encoder_logit",
    "user_bias",
    "item_bias",
    "log_user_count",
    "log_item_count",
    "history_liked_share",
    "log_history_length",
)
"""Names of a sample's scalars, in order. Shares of an empty history are .5."""

OUT_OF_FOLD = tuple(SCALARS.index(name) for name in ("encoder_logit", "history_liked_share", "log_history_length"))
"""Scalars of a train row that its label had no part in."""

SIDES = ("users", "items")

OF_TARGET = [SCALARS.index(name) for name in ("encoder_logit", "item_bias", "log_item_count")]
"""Scalars that depend on the target: zero in the user's slot, so that prompts of one user begin alike."""


@dataclass(frozen=True)
class EncoderTables:
    """What the encoder artifact says of every user and item; index 0 is padding."""

    user_vectors: Float32
    """(U+1, d)."""
    item_vectors: Float32
    """(I+1, d)."""
    user_bias: Float32
    """(U+1,)."""
    item_bias: Float32
    """(I+1,)."""


class Signals:
    """Standardised inputs of the projector, fixed by the encoder and the train rows.

    Args:
        tables: vectors and biases of the encoder.
        train: the train samples, whose rows give the means and deviations.
        inputs: what the projector sees; see `llm.projector.inputs`.

    Raises:
        DataError: a vector or bias is not finite.
    """

    def __init__(self, tables: EncoderTables, train: Samples, inputs: ProjectorInputs) -> None:
        self._hold(
            tables,
            np.bincount(train.user_idx, minlength=len(tables.user_bias)),
            np.bincount(train.item_idx, minlength=len(tables.item_bias)),
            inputs,
        )
        raw = self._raw_scalars(train)
        self._mean, self._std = raw.mean(0), np.maximum(raw.std(0), 1e-6)

    @classmethod
    def restored(
        cls, tables: EncoderTables, statistics: Mapping[str, npt.NDArray[Any]], inputs: ProjectorInputs
    ) -> Self:
        """Signals without their train rows.

        Args:
            statistics: what `statistics` of the fitted ones gave; those of users that came later may follow in user_count, and
                of items in item_count. `fitted_users` and `fitted_items`, how many rows of the tables the fitted ones had, keep
                the scale of the vectors as it was.

        Raises:
            DataError: a vector or bias is not finite.
        """
        signals = cls.__new__(cls)
        fitted = tuple(
            int(statistics[f"fitted_{side}"][0]) if f"fitted_{side}" in statistics else None for side in SIDES
        )
        signals._hold(tables, statistics["user_count"], statistics["item_count"], inputs, fitted)
        signals._mean, signals._std = statistics["scalar_mean"], statistics["scalar_std"]
        return signals

    @property
    def statistics(self) -> dict[str, npt.NDArray[Any]]:
        """What was taken from the train rows: user_count (U+1,), item_count (I+1,), scalar_mean and scalar_std, and how many rows
        of the tables gave the scale of the vectors: fitted_users (1,) and fitted_items (1,).
        """
        return {
            "user_count": self._user_count,
            "item_count": self._item_count,
            "scalar_mean": self._mean,
            "scalar_std": self._std,
            "fitted_users": np.array([self._fitted[0]], np.int64),
            "fitted_items": np.array([self._fitted[1]], np.int64),
        }

    def _hold(
        self,
        tables: EncoderTables,
        user_count: npt.NDArray[np.int64],
        item_count: npt.NDArray[np.int64],
        inputs: ProjectorInputs,
        fitted: tuple[int | None, ...] = (None, None),
    ) -> None:
        for name, values in vars(tables).items():
            if not np.isfinite(values).all():
                row = int(np.argwhere(~np.isfinite(values))[0][0])
                raise DataError(
                    f"encoder {name} of index {row} is not finite", "finite values", "train the encoder anew"
                )
        self.inputs = inputs
        self._tables = tables
        self._user_count, self._item_count = user_count, item_count
        counts = (user_count, item_count)
        self._fitted = [len(count) if rows is None else rows for count, rows in zip(counts, fitted, strict=True)]
        in_train = [
            (count > 0) & (np.arange(len(count)) < rows) for count, rows in zip(counts, self._fitted, strict=True)
        ]
        self.user_vectors = _standardised(tables.user_vectors, in_train[0])
        self.item_vectors = _standardised(tables.item_vectors, in_train[1])

    @property
    def size(self) -> int:
        """Length F of a slot's input."""
        vector = int(self.user_vectors.shape[1])
        lengths = {"vectors": vector, "vectors_and_scalars": vector + len(SCALARS), "out_of_fold": len(OUT_OF_FOLD)}
        return lengths[self.inputs]

    def scalars(self, samples: Samples) -> Float32:
        """(R, len(SCALARS)) standardised scalars of every sample, clipped to 5 deviations."""
        scaled = (self._raw_scalars(samples) - self._mean) / self._std
        return np.clip(scaled, -5, 5).astype(np.float32)

    def slot_input(self, slot: Slot, scalars: Float32) -> Float32:
        """(F,) input of one slot.

        The target slot carries the scalars of the sample (S,), the user slot those that are the same for every target; a
        history slot carries its item's bias and its label (as +1/-1 in the place of the liked share) and zeros elsewhere.
        """
        table = self.user_vectors if slot.kind == "user" else self.item_vectors
        vector = table[slot.index]
        if self.inputs == "vectors":
            return vector
        if slot.kind == "user":
            scalars = scalars.copy()
            scalars[OF_TARGET] = 0.0
        elif slot.kind == "history":
            scalars = np.zeros(len(SCALARS), np.float32)
            bias = SCALARS.index("item_bias")
            scalars[bias] = np.clip((self._tables.item_bias[slot.index] - self._mean[bias]) / self._std[bias], -5, 5)
            scalars[SCALARS.index("history_liked_share")] = 2.0 * slot.label - 1.0
        if self.inputs == "out_of_fold":
            return scalars[list(OUT_OF_FOLD)]
        return np.concatenate([vector, scalars])

    def _raw_scalars(self, samples: Samples) -> npt.NDArray[np.float64]:
        lengths = np.diff(samples.history_offsets)
        # reduceat cannot sum empty slices: differences of a running sum can.
        running = np.concatenate([[0], np.cumsum(samples.history_labels)])
        liked = running[samples.history_offsets[1:]] - running[samples.history_offsets[:-1]]
        share = np.where(lengths > 0, liked / np.maximum(lengths, 1), 0.5)
        return np.stack(
            [
                samples.encoder_logit,
                self._tables.user_bias[samples.user_idx],
                self._tables.item_bias[samples.item_idx],
                np.log1p(self._user_count[samples.user_idx]),
                np.log1p(self._item_count[samples.item_idx]),
                share,
                np.log1p(lengths),
            ],
            axis=1,
        ).astype(np.float64)


def _standardised(vectors: Float32, in_train: npt.NDArray[np.bool_]) -> Float32:
    """z-scores over the rows of `in_train`; row 0 (padding) and entities without train rows keep what the z-score gives."""
    known = vectors[in_train]
    mean, std = known.mean(0, dtype=np.float64), known.std(0, dtype=np.float64)
    scaled = (vectors - mean) / np.maximum(std, 1e-6)
    return np.clip(scaled, -5, 5).astype(np.float32)
