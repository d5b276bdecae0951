"""What train rows say of items beside their labels: vectors by who rates them, and the effect that content lets expect."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec_core.encoders.content import item_content
from thinkrec_core.encoders.examples import Sizes
from thinkrec_core.encoders.item_likeness import expected_effect, rated_together, towards_expected


def test_items_of_the_same_users_have_near_vectors_and_items_without_rows_none() -> None:
    # Users 1-10 rate items 1-4, users 11-20 items 5-8; nobody rates 9.
    users = np.repeat(np.arange(1, 21), 4)
    items = np.concatenate([np.tile([1, 2, 3, 4], 10), np.tile([5, 6, 7, 8], 10)])
    vectors = rated_together(users, items, Sizes(20, 9), 2, 0)
    cosine = vectors.astype(np.float64) @ vectors.T
    np.testing.assert_allclose(cosine[1:5, 1:5], 1, atol=1e-5)
    np.testing.assert_allclose(cosine[5:9, 5:9], 1, atol=1e-5)
    np.testing.assert_allclose(cosine[1:5, 5:9], 0, atol=1e-5)
    assert not vectors[[0, 9]].any()
    np.testing.assert_array_equal(vectors, rated_together(users, items, Sizes(20, 9), 2, 0))


def test_cosines_are_those_of_the_full_decomposition() -> None:
    draw = np.random.default_rng(0)
    users, items = draw.integers(1, 31, 400), draw.integers(1, 13, 400)
    found = rated_together(users, items, Sizes(30, 12), 50, 0)
    matrix = np.zeros((31, 13))
    np.add.at(matrix, (users, items), 1.0)
    matrix /= np.sqrt((matrix.sum(axis=1) + 5)[:, None] * (matrix.sum(axis=0) + 5))
    # All dimensions are kept: inner products are those of the columns themselves.
    gram = matrix.T @ matrix
    length = np.sqrt(np.diag(gram))[1:]
    np.testing.assert_allclose(
        found[1:].astype(float) @ found[1:].T, gram[1:, 1:] / np.outer(length, length), atol=1e-5
    )


def test_content_lets_expect_the_mean_of_its_kind_and_rare_items_are_drawn_towards_it() -> None:
    content = item_content(["T"] * 200, ["Horror" if item % 2 else "Comedy" for item in range(1, 201)])
    draw = np.random.default_rng(1)
    effect = np.concatenate([[0.0], np.where(np.arange(1, 201) % 2, -1.0, 1.0) + 0.1 * draw.normal(size=200)])
    count = np.full(201, 50)
    count[0], count[7] = 0, 0
    effect[7] = 30.0  # nobody rated it: its effect counts for nothing
    expected = expected_effect(content, effect, count)
    assert expected[7] == pytest.approx(-1, abs=0.1)
    assert expected[8] == pytest.approx(1, abs=0.1)
    # By hand: (n * effect + 4 * expected) / (n + 4).
    drawn = towards_expected(np.array([3.0, 3.0]), np.array([1.0, 1.0]), np.array([0, 4]))
    np.testing.assert_allclose(drawn, [1.0, 2.0])
