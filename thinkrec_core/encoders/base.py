"""What every collaborative-filtering encoder offers: a score per row, a vector per user and item, main effects.

Shape legend: B rows of a batch, L history length, U users, I items (tables have one row more, index 0 is padding),
d embedding size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.examples import Likes, Sizes

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """B rows as tensors of indices."""

    users_B: Tensor
    items_B: Tensor
    histories_BL: Tensor
    """Liked history items, newest last, 0 on the left; L is 0 for encoders that read none."""


class Encoder(nn.Module, ABC):
    """score = interaction + mu + b_u + b_i, a logit of "likes"; without biases the main effects are fixed zeros."""

    history_length = 0
    """L of `Batch.histories_BL`; 0 for encoders that read no history."""

    mu: Tensor
    user_bias: Tensor
    item_bias: Tensor

    def __init__(self, sizes: Sizes, biases: bool) -> None:
        super().__init__()
        self.sizes = sizes
        self.biases = biases

    def add_main_effects(self) -> None:
        """Register mu (1,), user_bias (U+1,) and item_bias (I+1,); called last, after the encoder's own parameters."""
        for name, size in (("mu", 1), ("user_bias", self.sizes.users + 1), ("item_bias", self.sizes.items + 1)):
            if self.biases:
                self.register_parameter(name, nn.Parameter(torch.zeros(size)))
            else:
                self.register_buffer(name, torch.zeros(size))

    @classmethod
    @abstractmethod
    def from_config(cls, config: EncoderConfig, sizes: Sizes, likes: Likes, generator: torch.Generator) -> Self:
        """An untrained encoder.

        Args:
            likes: of the train rows. A buffer that keeps them has the name of its field, so that a saved encoder is
                found again with tensors of the saved shapes; all other shapes follow from `config` and `sizes`.
            generator: draws all random numbers, those of dropout later on as well.
        """

    @abstractmethod
    def interaction(self, batch: Batch) -> Tensor:
        """(B,) the part of the score that depends on user and item together."""

    @abstractmethod
    def user_vectors(self) -> Tensor:
        """(U+1, d) one vector per user."""

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """(I+1, d) one vector per item."""

    def score(self, batch: Batch) -> Tensor:
        """(B,) logits."""
        interaction_B = self.interaction(batch)
        if not self.biases:
            return interaction_B
        return interaction_B + self.mu + self.user_bias[batch.users_B] + self.item_bias[batch.items_B]

    @torch.no_grad()
    def tables(self) -> dict[str, Float32]:
        """user_vectors (U+1, d), item_vectors (I+1, d), user_bias (U+1,), item_bias (I+1,), mu (1,); without dropout."""
        was_training = self.training
        self.eval()
        found = {
            "user_vectors": self.user_vectors(),
            "item_vectors": self.item_vectors(),
            "user_bias": self.user_bias,
            "item_bias": self.item_bias,
            "mu": self.mu,
        }
        self.train(was_training)
        return {name: np.ascontiguousarray(value.detach().numpy(), dtype=np.float32) for name, value in found.items()}


def normal_table(rows: int, size: int, std: float, generator: torch.Generator) -> nn.Parameter:
    """A (rows, size) parameter drawn from N(0, std^2), with the padding row 0 set to zero."""
    table = torch.randn(rows, size, generator=generator) * std
    table[0] = 0.0
    return nn.Parameter(table)
