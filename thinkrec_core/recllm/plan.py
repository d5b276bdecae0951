"""Which rows each optimiser step sees: a pure function of seed and step, so that resuming needs no sampler state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from thinkrec_core.recllm.examples import BatchKind
from thinkrec_core.seeds import generator

IntArray = npt.NDArray[np.int64]


class BatchPlan:
    """Kind and rows of every step of one training phase.

    Each step draws its kind (reasoning with probability `reasoning_probability`) from the shared seed, the same on all ranks
    and micro-batches. Rows of a kind come in epochs of seeded permutations, each row once per epoch.

    With `lengths` the batches of an epoch hold rows of similar length, so that little is padded: the rows of `pool`
    consecutive batches of a permutation are sorted by length, cut into batches, and these come in a drawn order. A batch that
    lies across two epochs is left as drawn.

    Args:
        seed: the run's seed.
        phase: name of the phase; other phases draw other numbers.
        recommendation: row numbers of recommendation samples.
        reasoning: row numbers with a reflection; empty switches reasoning batches off.
        batch_size: rows of a step over all ranks and accumulation steps.
        steps: T.
        lengths: of each row of a kind, in the order of its row numbers; what they depend on makes rows of a batch alike.
        pool: batches that are sorted together; 1 sorts nothing.
    """

    def __init__(
        self,
        seed: int,
        phase: str,
        recommendation: Sequence[int],
        reasoning: Sequence[int],
        batch_size: int,
        steps: int,
        reasoning_probability: float,
        lengths: Mapping[BatchKind, Sequence[int]] | None = None,
        pool: int = 1,
    ) -> None:
        self.batch_size, self.steps = batch_size, steps
        self._seed, self._phase, self._pool = seed, phase, pool
        self._rows: dict[BatchKind, IntArray] = {
            "recommendation": np.asarray(recommendation, np.int64),
            "reasoning": np.asarray(reasoning, np.int64),
        }
        self._lengths = {kind: np.asarray(values, np.int64) for kind, values in (lengths or {}).items()}
        chance = reasoning_probability if len(reasoning) else 0.0
        self._is_reasoning = generator(seed, phase, "kind").random(steps) < chance
        done = np.cumsum(self._is_reasoning)
        # How many batches of the step's own kind came before it.
        self._earlier = np.where(self._is_reasoning, done - 1, np.arange(steps) - done)
        self._epoch = lru_cache(maxsize=4)(self._order)

    def kind(self, step: int) -> BatchKind:
        """The kind of `step`."""
        return "reasoning" if self._is_reasoning[step] else "recommendation"

    def rows(self, step: int) -> list[int]:
        """Row numbers of `step`, `batch_size` of them."""
        kind = self.kind(step)
        count = len(self._rows[kind])
        first = int(self._earlier[step]) * self.batch_size
        places = [divmod(place, count) for place in range(first, first + self.batch_size)]
        return [int(self._rows[kind][self._epoch(kind, epoch)[index]]) for epoch, index in places]

    def share(self, step: int, rank: int, world_size: int, micro: int, accumulation: int) -> slice:
        """The part of the step's rows that `rank` handles in micro-batch `micro`."""
        size = self.batch_size // (world_size * accumulation)
        start = (micro * world_size + rank) * size
        return slice(start, start + size)

    def _order(self, kind: BatchKind, epoch: int) -> IntArray:
        """(rows of the kind,) the order in which they come in `epoch`."""
        draw = generator(self._seed, self._phase, kind, epoch)
        order = draw.permutation(len(self._rows[kind]))
        if self._pool == 1 or kind not in self._lengths:
            return order
        # The first rows fill the batch that the epoch before began; from there on places are whole batches.
        size, begun = self.batch_size, -epoch * len(order) % self.batch_size
        whole = begun + (len(order) - begun) // size * size if begun < len(order) else begun
        for start in range(begun, whole, self._pool * size):
            stop = min(start + self._pool * size, whole)
            pool = order[start:stop]
            by_length = pool[np.argsort(self._lengths[kind][pool], kind="stable")].reshape(-1, size)
            order[start:stop] = draw.permutation(by_length).ravel()
        return order
