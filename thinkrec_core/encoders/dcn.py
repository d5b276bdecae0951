"""Deep and Cross Network, version 2, its cross part: interaction = linear(x_K), x_{k+1} = x_0 * (W_k x_k + b_k) + x_k.

x_0 = [user row, target row, mean of the liked history's rows]; each layer raises the degree of the crossings by one
(Wang et al. 2021, eq. 1).

Differs: no parallel MLP; main effects are added; the last layer starts at zero, so that training starts from them.

Shape legend: see `base`.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.base import Batch, Encoder, normal_table
from thinkrec_core.encoders.examples import Likes, Sizes
from thinkrec_core.encoders.layers import Dense, SeededDropout

INITIAL_STD = 0.1


class DCN(Encoder):
    """Explicit feature crossings of user, target and history.

    Args:
        layers: K, cross layers.
        max_length: L, the history items that are read.
        generator: draws the initial weights, and later the dropout masks of training.
    """

    def __init__(
        self,
        sizes: Sizes,
        embedding_size: int,
        layers: int,
        max_length: int,
        dropout: float,
        biases: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__(sizes, biases)
        self.history_length = max_length
        d = embedding_size
        self.user_table = normal_table(sizes.users + 1, d, INITIAL_STD, generator)
        self.item_table = normal_table(sizes.items + 1, d, INITIAL_STD, generator)
        self.crosses = nn.ModuleList(Dense(3 * d, 3 * d, generator) for _ in range(layers))
        self.dropout = SeededDropout(dropout, generator)
        self.last = Dense(3 * d, 1, generator, zero=True)
        self.add_main_effects()

    @classmethod
    def from_config(cls, config: EncoderConfig, sizes: Sizes, likes: Likes, generator: torch.Generator) -> Self:
        """See `Encoder.from_config`."""
        return cls(
            sizes, config.embedding_size, config.layers, config.max_length, config.dropout, config.biases, generator
        )

    def interaction(self, batch: Batch) -> Tensor:
        """(B,) the crossed features' weighted sum."""
        users_Bd = functional.embedding(batch.users_B, self.user_table)
        items_Bd = functional.embedding(batch.items_B, self.item_table)
        real_BL1 = (batch.histories_BL != 0).unsqueeze(-1)
        history_BLd = functional.embedding(batch.histories_BL, self.item_table) * real_BL1
        mean_Bd = history_BLd.sum(1) / real_BL1.sum(1).clamp(min=1)
        start = crossed = torch.cat([users_Bd, items_Bd, mean_Bd], dim=-1)
        for cross in self.crosses:
            crossed = start * cross(crossed) + crossed
        found_B1: Tensor = self.last(self.dropout(crossed))
        return found_B1.squeeze(-1)

    def user_vectors(self) -> Tensor:
        """(U+1, d) the user table."""
        return self.user_table

    def item_vectors(self) -> Tensor:
        """(I+1, d) the item table."""
        return self.item_table
