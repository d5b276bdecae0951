"""The projector: collaborative vectors into the token space of the LM (CoLLM, section 3.2; ThinkRec's hybrid encoding)."""

from __future__ import annotations

import torch
from torch import nn


class Projector(nn.Module):
    """Linear(F, m F), ReLU, Linear(m F, hidden * n_tokens): one map for users, targets and history items.

    Args:
        input_size: F, the length of a slot's input.
        hidden_size: token embedding size of the LM.
        multiplier: m.
        n_tokens: soft tokens per vector.
        embedding_rms: root mean square of the LM's token embeddings; the last layer starts at this scale, so that soft
            tokens are neither silent nor shouting among words. None keeps PyTorch's start.
        generator: source of the starting weights.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        multiplier: int,
        n_tokens: int,
        embedding_rms: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_tokens, self.hidden_size = n_tokens, hidden_size
        self.inner = nn.Linear(input_size, multiplier * input_size)
        self.outer = nn.Linear(multiplier * input_size, hidden_size * n_tokens)
        with torch.no_grad():
            for layer in (self.inner, self.outer):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
            if embedding_rms is not None:
                probe = torch.randn(256, input_size, generator=generator)
                rms = self(probe).pow(2).mean().sqrt()
                self.outer.weight.mul_(embedding_rms / rms)
                self.outer.bias.mul_(embedding_rms / rms)

    def forward(self, inputs_SF: torch.Tensor) -> torch.Tensor:
        """(S, n_tokens, hidden) soft tokens of S slots."""
        out: torch.Tensor = self.outer(torch.relu(self.inner(inputs_SF)))
        return out.view(-1, self.n_tokens, self.hidden_size)
