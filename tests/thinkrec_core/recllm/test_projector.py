"""The projector: published size, its formula, and the scale it starts at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thinkrec_core.recllm.projector import Projector


def test_published_size() -> None:
    with torch.device("meta"):
        projector = Projector(256, 4096, multiplier=10, n_tokens=1)
    assert sum(parameter.numel() for parameter in projector.parameters()) == 11_147_776


@pytest.mark.parametrize("n_tokens", [1, 3])
def test_two_layers_with_a_relu_between(n_tokens: int) -> None:
    projector = Projector(5, 7, 2, n_tokens, generator=torch.Generator().manual_seed(1))
    inputs = np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5)
    w1, b1, w2, b2 = (value.detach().numpy() for value in projector.parameters())
    expected = np.maximum(inputs @ w1.T + b1, 0) @ w2.T + b2
    got = projector(torch.from_numpy(inputs)).detach().numpy()
    assert got.shape == (4, n_tokens, 7)
    np.testing.assert_allclose(got, expected.reshape(4, n_tokens, 7), atol=1e-6)


def test_soft_tokens_start_at_the_scale_of_words() -> None:
    projector = Projector(16, 64, 10, 1, embedding_rms=0.02, generator=torch.Generator().manual_seed(1))
    soft = projector(torch.randn(2000, 16, generator=torch.Generator().manual_seed(2)))
    assert float(soft.detach().pow(2).mean().sqrt()) == pytest.approx(0.02, rel=0.1)


def test_the_generator_alone_decides_the_start() -> None:
    def weights(seed: int) -> torch.Tensor:
        return Projector(4, 8, 2, 1, 0.1, torch.Generator().manual_seed(seed)).outer.weight.detach()

    torch.manual_seed(3)
    first = weights(1)
    torch.manual_seed(4)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))
