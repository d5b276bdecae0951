"""Samples as arrays: one row per (user, target item, time) with its label, history and encoder logit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """R samples of one split. Histories are ragged: row i owns the slice offsets[i]:offsets[i+1]."""

    user_idx: IntArray
    """(R,) 1..U."""
    item_idx: IntArray
    """(R,) 1..I, the target."""
    label: IntArray
    """(R,) 0 or 1."""
    history_offsets: IntArray
    """(R+1,)."""
    history_items: IntArray
    """(sum of lengths,) oldest first."""
    history_labels: IntArray
    """(sum of lengths,)."""
    encoder_logit: FloatArray
    """(R,) score of the CF encoder; out of fold on train rows."""
    prior_logit: FloatArray | None = None
    """(R,) score of the prior where it is another method than the encoder; out of fold on train rows."""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def prior(self) -> FloatArray:
        """(R,) what the LLM's logit is added to, where training has a prior."""
        return self.encoder_logit if self.prior_logit is None else self.prior_logit

    def history(self, row: int, last: int) -> tuple[list[int], list[int]]:
        """The newest `last` history items of `row` and their labels, oldest first."""
        end = int(self.history_offsets[row + 1])
        start = max(int(self.history_offsets[row]), end - last)
        return self.history_items[start:end].tolist(), self.history_labels[start:end].tolist()
