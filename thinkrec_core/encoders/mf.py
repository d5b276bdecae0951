"""Matrix factorisation: interaction = <U_u, V_i>.

Shape legend: see `base`.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.base import Batch, Encoder, normal_table
from thinkrec_core.encoders.examples import Likes, Sizes

INITIAL_STD = 0.01
"""Larger starts (N(0, 1)) drown the signal in noise: the valid AUC stays near .50."""


class MatrixFactorisation(Encoder):
    """Dot products under a logistic loss; the encoder of the published CoLLM-MF runs (there with d = 256)."""

    def __init__(self, sizes: Sizes, embedding_size: int, biases: bool, generator: torch.Generator) -> None:
        super().__init__(sizes, biases)
        self.user_table = normal_table(sizes.users + 1, embedding_size, INITIAL_STD, generator)
        self.item_table = normal_table(sizes.items + 1, embedding_size, INITIAL_STD, generator)
        self.add_main_effects()

    @classmethod
    def from_config(cls, config: EncoderConfig, sizes: Sizes, likes: Likes, generator: torch.Generator) -> Self:
        """See `Encoder.from_config`."""
        return cls(sizes, config.embedding_size, config.biases, generator)

    def interaction(self, batch: Batch) -> Tensor:
        """(B,) dot products of user and item rows."""
        users_Bd = functional.embedding(batch.users_B, self.user_table)
        items_Bd = functional.embedding(batch.items_B, self.item_table)
        return (users_Bd * items_Bd).sum(-1)

    def user_vectors(self) -> Tensor:
        """(U+1, d) the user table."""
        return self.user_table

    def item_vectors(self) -> Tensor:
        """(I+1, d) the item table."""
        return self.item_table
