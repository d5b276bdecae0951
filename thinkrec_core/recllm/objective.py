"""The dual objective (ThinkRec, training objective; weights in spec section 3 of the method).

Recommendation batch: theta * BCE(score, label) + gamma * CE(answer token).
Reasoning batch:      alpha * BCE(score, label) + beta  * CE(all answer tokens).

BCE is the mean over the examples, CE the mean over the answer tokens, both of the whole global batch, so that accumulation and
world size change nothing. The kind is an explicit flag; the published code guesses it from the answer's length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from thinkrec_core.recllm.examples import BatchKind
from thinkrec_core.recllm.model import LossSums


@dataclass(frozen=True)
class ObjectiveWeights:
    """Weights of the two batch kinds."""

    alpha: float = 0.1
    beta: float = 0.9
    theta: float = 0.9
    gamma: float = 0.1

    def of(self, kind: BatchKind) -> tuple[float, float]:
        """(BCE weight, CE weight) of a batch kind."""
        return (self.alpha, self.beta) if kind == "reasoning" else (self.theta, self.gamma)


def batch_loss(
    sums: LossSums, kind: BatchKind, weights: ObjectiveWeights, examples: int, answer_tokens: int
) -> torch.Tensor:
    """This micro-batch's share of the global batch's loss; the shares of all micro-batches and ranks add up to it.

    Args:
        sums: sums over this micro-batch.
        examples: examples of the whole global batch.
        answer_tokens: answer tokens of the whole global batch.
    """
    weight_bce, weight_ce = weights.of(kind)
    return weight_bce * sums.bce / examples + weight_ce * sums.ce / answer_tokens
