"""Layers that several encoders share; every random number comes from a generator that is handed over.

Shape legend: see `base`; N rows of any kind, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

DICE_EPS = 1e-9
DICE_MOMENTUM = 0.1


class SeededDropout(nn.Module):
    """Dropout whose masks come from a generator of its own, so that training touches no global seed."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rate, self.generator = rate, generator

    def forward(self, x: Tensor) -> Tensor:
        """`x` with a share `rate` zeroed and the rest scaled up, in training; `x` itself otherwise."""
        if not self.training or self.rate == 0:
            return x
        keep = 1.0 - self.rate
        return x * torch.empty_like(x).bernoulli_(keep, generator=self.generator) / keep


class Dense(nn.Module):
    """A linear map whose weights start uniform within 1/sqrt(inputs), or at zero."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, *, zero: bool = False) -> None:
        super().__init__()
        bound = 0.0 if zero else 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(uniform((outputs, inputs), bound, generator))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., outputs)."""
        return functional.linear(x, self.weight, self.bias)


class Dice(nn.Module):
    """x * (p + alpha (1 - p)) with p = sigmoid of x standardised per channel (Zhou et al. 2018, eq. 4).

    In training the statistics are those of the batch; afterwards, and for a batch of one row, running means.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x_NC: Tensor) -> Tensor:
        """(N, C)."""
        standardised_NC = functional.batch_norm(
            x_NC,
            self.running_mean,
            self.running_var,
            training=self.training and len(x_NC) > 1,
            momentum=DICE_MOMENTUM,
            eps=DICE_EPS,
        )
        gate_NC = torch.sigmoid(standardised_NC)
        return x_NC * (gate_NC + self.alpha * (1 - gate_NC))


def uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    """A tensor drawn from U(-bound, bound)."""
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
