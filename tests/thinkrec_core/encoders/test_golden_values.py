"""Scores of the published encoder code with every parameter tensor filled by a formula.

Tensor j (in the order of the published parameters) holds .1 * sin(.37 (k + 1) + .11 j) at its flat position k.
"""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch

from thinkrec_core.encoders.base import Batch, Encoder
from thinkrec_core.encoders.examples import Sizes
from thinkrec_core.encoders.lightgcn import LightGCN
from thinkrec_core.encoders.mf import MatrixFactorisation
from thinkrec_core.encoders.sasrec import SASRec

EncoderT = TypeVar("EncoderT", bound=Encoder)
TOLERANCE = 1e-6
SEQUENCES = [[0, 0, 0, 3, 5], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]]


def filled(encoder: EncoderT) -> EncoderT:
    with torch.no_grad():
        for j, parameter in enumerate(encoder.parameters()):
            k = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_((0.1 * torch.sin(0.37 * (k + 1) + 0.11 * j)).reshape(parameter.shape))
    return encoder.eval()


def batch(users: list[int], items: list[int], histories: list[list[int]] | None = None) -> Batch:
    return Batch(torch.tensor(users), torch.tensor(items), torch.tensor(histories or [[]] * len(items)).long())


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def sasrec() -> SASRec:
    none = torch.zeros(2, 5, dtype=torch.int64)
    encoder = filled(SASRec(Sizes(1, 8), 4, 5, 2, 0.2, none, biases=False, generator=generator()))
    with torch.no_grad():
        encoder.item_table[0] = 0
    return encoder


def test_matrix_factorisation() -> None:
    encoder = filled(MatrixFactorisation(Sizes(5, 7), 4, biases=False, generator=generator()))
    scores = encoder.score(batch([1, 2], [3, 6])).tolist()
    assert scores == pytest.approx([-0.0195905361, 0.0148071051], abs=TOLERANCE)


def test_lightgcn() -> None:
    # Tables of 3 and 4 rows, padding included; the like (2, 2) occurs twice.
    edges = torch.tensor([[1, 1, 2, 2, 2], [1, 2, 2, 2, 3]])
    encoder = filled(LightGCN(Sizes(2, 3), 4, 2, edges, biases=False, generator=generator()))
    scores = encoder.score(batch([1, 2, 0], [2, 3, 1])).tolist()
    assert scores == pytest.approx([-0.0029989264, 0.0117134741, 0.0026038497], abs=TOLERANCE)
    user = encoder.user_vectors()[1].tolist()
    assert user == pytest.approx([0.0695116, 0.0481108, 0.0201984, -0.0104478], abs=TOLERANCE)


def test_sasrec() -> None:
    encoder = sasrec()
    expected = [
        [-0.0289192926, -0.0940796286, -0.0307525229, 0.0222027712],
        [-0.0289569013, -0.0939221233, -0.0304907113, 0.0219370667],
        [-0.0197108164, -0.0538290516, -0.0806617737, -0.0965773091],
    ]
    assert encoder.encode(torch.tensor(SEQUENCES)).tolist() == [pytest.approx(row, abs=TOLERANCE) for row in expected]
    scores = encoder.score(batch([1, 1, 1], [2, 6, 1], SEQUENCES)).tolist()
    assert scores == pytest.approx([0.0058501563, 0.0011861614, -0.0121537736], abs=TOLERANCE)


def test_biases_add_to_the_interaction() -> None:
    plain = filled(MatrixFactorisation(Sizes(5, 7), 4, biases=False, generator=generator()))
    biased = MatrixFactorisation(Sizes(5, 7), 4, biases=True, generator=generator())
    state = {**plain.state_dict(), "mu": torch.tensor([0.5])}
    state["user_bias"], state["item_bias"] = torch.arange(6.0), torch.arange(8.0) / 10
    biased.load_state_dict(state)
    rows = batch([1, 2], [3, 6])
    expected = plain.score(rows) + 0.5 + torch.tensor([1.0, 2.0]) + torch.tensor([0.3, 0.6])
    torch.testing.assert_close(biased.score(rows), expected)
