"""Deep Interest Network: the history as the target sees it; interaction = MLP[user, interest, target, interest * target].

interest = sum_l a(q, h_l) h_l over the liked history, where q is the target's row, h_l a history row, and a the MLP
[q, h, q - h, q * h] -> 64 -> Dice -> 16 -> Dice -> 1 without a softmax: the strength of the interest is kept (Zhou et al. 2018,
eq. 3). Padded positions take no part.

Differs: an example is (history, target, label) under a pointwise loss with main effects added; the last layer starts at
zero, so that training starts from them.

Shape legend: see `base`; N the real history positions of a batch.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.base import Batch, Encoder, normal_table
from thinkrec_core.encoders.examples import Likes, Sizes
from thinkrec_core.encoders.layers import Dense, Dice, SeededDropout

INITIAL_STD = 0.05
ATTENTION = (64, 16)
"""Hidden units of the attention."""
HIDDEN = (80, 40)
"""Hidden units of the MLP above."""


class DIN(Encoder):
    """Target-aware attention over the liked history.

    Args:
        max_length: L, the history items that are read.
        generator: draws the initial weights, and later the dropout masks of training.
    """

    def __init__(
        self,
        sizes: Sizes,
        embedding_size: int,
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
        self.attention = _perceptron(4 * d, ATTENTION, generator)
        self.dropout = SeededDropout(dropout, generator)
        self.perceptron = _perceptron(4 * d, HIDDEN, generator, zero=True)
        self.add_main_effects()

    @classmethod
    def from_config(cls, config: EncoderConfig, sizes: Sizes, likes: Likes, generator: torch.Generator) -> Self:
        """See `Encoder.from_config`."""
        return cls(sizes, config.embedding_size, config.max_length, config.dropout, config.biases, generator)

    def interaction(self, batch: Batch) -> Tensor:
        """(B,) what user, interest and target say together."""
        users_Bd = functional.embedding(batch.users_B, self.user_table)
        items_Bd = functional.embedding(batch.items_B, self.item_table)
        interest_Bd = self.interest(batch.histories_BL, items_Bd)
        joined_B4d = torch.cat([users_Bd, interest_Bd, items_Bd, interest_Bd * items_Bd], dim=-1)
        found_B1: Tensor = self.perceptron(self.dropout(joined_B4d))
        return found_B1.squeeze(-1)

    def interest(self, histories_BL: Tensor, items_Bd: Tensor) -> Tensor:
        """(B, d) the attended history of each row; zeros where it is empty."""
        real_BL = histories_BL != 0
        rows_N = real_BL.nonzero(as_tuple=True)[0]
        interest_Bd = torch.zeros_like(items_Bd)
        if not len(rows_N):
            return interest_Bd
        history_Nd, target_Nd = functional.embedding(histories_BL[real_BL], self.item_table), items_Bd[rows_N]
        pairs_N4d = torch.cat([target_Nd, history_Nd, target_Nd - history_Nd, target_Nd * history_Nd], dim=-1)
        return interest_Bd.index_add(0, rows_N, self.attention(pairs_N4d) * history_Nd)

    def user_vectors(self) -> Tensor:
        """(U+1, d) the user table: the rest of a user's part depends on the target."""
        return self.user_table

    def item_vectors(self) -> Tensor:
        """(I+1, d) the item table."""
        return self.item_table


def _perceptron(
    inputs: int, hidden: tuple[int, ...], generator: torch.Generator, *, zero: bool = False
) -> nn.Sequential:
    """inputs -> hidden with Dice -> 1; with `zero` the last layer starts at zero."""
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [Dense(inputs, units, generator), Dice(units)]
        inputs = units
    return nn.Sequential(*layers, Dense(inputs, 1, generator, zero=zero))
