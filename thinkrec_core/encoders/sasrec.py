"""SASRec: a causal transformer over a user's liked items; interaction = <last position, item row>.

x = E[sequence] * sqrt(d) + P, dropout, padded positions zeroed. Each block: Q = LN(x); y = Q + attention(Q, x, x),
causal and without a padding mask; y = LN(y); y = y + FFN(y) with FFN = linear, dropout, ReLU, linear, dropout; padded
positions zeroed. A last LN; the user is the last position (Kang and McAuley 2018, in the form of the CoLLM code).

Differs: an example is (history, target, label) under a pointwise loss, not next-item prediction with drawn negatives.

Shape legend: see `base`.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.base import Batch, Encoder, normal_table
from thinkrec_core.encoders.examples import Likes, Sizes
from thinkrec_core.encoders.layers import SeededDropout, uniform

NORM_EPS = 1e-8
INITIAL_STD = 0.02


class SASRec(Encoder):
    """Self-attentive sequential encoder with one attention head.

    Args:
        max_length: L, the history items that are read.
        blocks: transformer blocks.
        user_histories_UL: (U+1, L) the newest train likes of each user; their encoding is the user's vector.
        generator: draws the initial weights, and later the dropout masks of training.
    """

    user_histories_UL: Tensor

    def __init__(
        self,
        sizes: Sizes,
        embedding_size: int,
        max_length: int,
        blocks: int,
        dropout: float,
        user_histories_UL: Tensor,
        biases: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__(sizes, biases)
        self.history_length = max_length
        d, std = embedding_size, INITIAL_STD
        self.item_table = normal_table(sizes.items + 1, d, std, generator)
        self.position_table = nn.Parameter(torch.randn(max_length, d, generator=generator) * std)
        self.attention_norms = nn.ModuleList(_norm(d) for _ in range(blocks))
        self.attentions = nn.ModuleList(CausalAttention(d, dropout, generator) for _ in range(blocks))
        self.feed_forward_norms = nn.ModuleList(_norm(d) for _ in range(blocks))
        self.feed_forwards = nn.ModuleList(FeedForward(d, dropout, generator) for _ in range(blocks))
        self.last_norm = _norm(d)
        self.dropout = SeededDropout(dropout, generator)
        self.register_buffer("user_histories_UL", user_histories_UL)
        self.add_main_effects()

    @classmethod
    def from_config(cls, config: EncoderConfig, sizes: Sizes, likes: Likes, generator: torch.Generator) -> Self:
        """See `Encoder.from_config`."""
        return cls(
            sizes,
            config.embedding_size,
            config.max_length,
            config.layers,
            config.dropout,
            likes.user_histories_UL,
            config.biases,
            generator,
        )

    def interaction(self, batch: Batch) -> Tensor:
        """(B,) dot products of the encoded histories with the target rows."""
        return (self.encode(batch.histories_BL) * functional.embedding(batch.items_B, self.item_table)).sum(-1)

    def encode(self, sequences_BL: Tensor) -> Tensor:
        """(B, d) the last position of each sequence of item indices (0 pads on the left)."""
        real_BL1 = (sequences_BL != 0).unsqueeze(-1)
        x_BLd = functional.embedding(sequences_BL, self.item_table) * math.sqrt(self.item_table.shape[1])
        x_BLd = self.dropout(x_BLd + self.position_table) * real_BL1
        for block, attention in enumerate(self.attentions):
            # Only the last position leaves the last block, so only it is computed there.
            first = sequences_BL.shape[1] - 1 if block == len(self.attentions) - 1 else 0
            query_BLd = self.attention_norms[block](x_BLd[:, first:])
            x_BLd = self.feed_forward_norms[block](query_BLd + attention(query_BLd, x_BLd))
            x_BLd = (x_BLd + self.feed_forwards[block](x_BLd)) * real_BL1[:, first:]
        return self.last_norm(x_BLd[:, -1])

    def user_vectors(self) -> Tensor:
        """(U+1, d) encodings of the users' newest train likes; users without any share that of the empty history."""
        return torch.cat([self.encode(part) for part in self.user_histories_UL.split(4096)])

    def item_vectors(self) -> Tensor:
        """(I+1, d) the item table."""
        return self.item_table


class CausalAttention(nn.Module):
    """One-head attention in which position t sees positions up to t; the weights lie as in nn.MultiheadAttention."""

    def __init__(self, size: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.in_weight = nn.Parameter(uniform((3 * size, size), math.sqrt(6 / (4 * size)), generator))
        self.in_bias = nn.Parameter(torch.zeros(3 * size))
        self.out_weight = nn.Parameter(uniform((size, size), 1 / math.sqrt(size), generator))
        self.out_bias = nn.Parameter(torch.zeros(size))
        self.dropout = SeededDropout(dropout, generator)

    def forward(self, query_BLd: Tensor, x_BLd: Tensor) -> Tensor:
        """(B, Q, d) attention of the queries, which are the last Q positions, over `x_BLd` as keys and values."""
        size, length, queries = x_BLd.shape[-1], x_BLd.shape[-2], query_BLd.shape[-2]
        q_BLd = functional.linear(query_BLd, self.in_weight[:size], self.in_bias[:size])
        k_BLd, v_BLd = functional.linear(x_BLd, self.in_weight[size:], self.in_bias[size:]).chunk(2, dim=-1)
        logits_BLL = q_BLd @ k_BLd.transpose(-1, -2) / math.sqrt(size)
        future_LL = torch.ones(queries, length, dtype=torch.bool).triu(1 + length - queries)
        weights_BLL = self.dropout(logits_BLL.masked_fill(future_LL, -torch.inf).softmax(-1))
        return functional.linear(weights_BLL @ v_BLd, self.out_weight, self.out_bias)


class FeedForward(nn.Module):
    """linear, dropout, ReLU, linear, dropout; the published 1x1 convolutions are the same two linear maps."""

    def __init__(self, size: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(size)
        self.first_weight = nn.Parameter(uniform((size, size), bound, generator))
        self.first_bias = nn.Parameter(uniform((size,), bound, generator))
        self.second_weight = nn.Parameter(uniform((size, size), bound, generator))
        self.second_bias = nn.Parameter(uniform((size,), bound, generator))
        self.dropout = SeededDropout(dropout, generator)

    def forward(self, x_BLd: Tensor) -> Tensor:
        """(B, L, d), without the residual."""
        hidden_BLd = self.dropout(functional.linear(x_BLd, self.first_weight, self.first_bias)).relu()
        return self.dropout(functional.linear(hidden_BLd, self.second_weight, self.second_bias))


def _norm(size: int) -> nn.LayerNorm:
    return nn.LayerNorm(size, eps=NORM_EPS)
