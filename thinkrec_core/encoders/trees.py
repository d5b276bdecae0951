"""A fitted booster as plain arrays: kept in safetensors and evaluated without scikit-learn, so that no pickle is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from thinkrec_core.evaluation.checks import FloatArray


@dataclass(frozen=True)
class Trees:
    """The trees of a gradient booster, their N nodes one tree after the other; a leaf is its own left and right."""

    feature: npt.NDArray[np.int64]
    """(N,) the column that a node asks for."""
    threshold: FloatArray
    """(N,): a value up to it goes left."""
    left: npt.NDArray[np.int64]
    """(N,)."""
    right: npt.NDArray[np.int64]
    """(N,)."""
    value: FloatArray
    """(N,) what a leaf adds to the logit."""
    root: npt.NDArray[np.int64]
    """(T,) the first node of each tree."""
    start: FloatArray
    """(1,) the logit before the first tree."""

    @classmethod
    def of(cls, booster: Any) -> Self:
        """Those of a fitted binary HistGradientBoostingClassifier on finite numbers.

        scikit-learn has no public way to its trees: whoever calls this compares `logits` with `decision_function`.
        """
        nodes = [stage[0].nodes for stage in booster._predictors]
        root = np.cumsum([0, *map(len, nodes)])
        joined, shift = np.concatenate(nodes), np.repeat(root[:-1], list(map(len, nodes)))
        leaf, own = joined["is_leaf"].astype(bool), np.arange(len(joined))
        return cls(
            feature=np.where(leaf, 0, joined["feature_idx"]).astype(np.int64),
            threshold=joined["num_threshold"].astype(np.float64),
            left=np.where(leaf, own, joined["left"] + shift).astype(np.int64),
            right=np.where(leaf, own, joined["right"] + shift).astype(np.int64),
            value=joined["value"].astype(np.float64),
            root=root[:-1].astype(np.int64),
            start=np.ravel(booster._baseline_prediction).astype(np.float64),
        )

    @classmethod
    def restored(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The inverse of `vars`."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})

    def logits(self, features: FloatArray) -> FloatArray:
        """(R,) logits of `features` (R, F)."""
        rows, logits = np.arange(len(features)), np.full(len(features), self.start[0])
        for root in self.root:
            node = np.full(len(features), root)
            while (self.left[node] != node).any():
                goes_left = features[rows, self.feature[node]] <= self.threshold[node]
                node = np.where(goes_left, self.left[node], self.right[node])
            logits += self.value[node]
        return logits
