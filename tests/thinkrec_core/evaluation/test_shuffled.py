"""Derangements: every row meets other rows only, none of them twice."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec_core.evaluation.shuffled import strangers


@pytest.mark.parametrize(("rows", "shuffles"), [(2, 1), (2, 5), (3, 2), (7, 5), (200, 5)])
def test_no_row_meets_itself_or_another_twice(rows: int, shuffles: int) -> None:
    found = strangers(rows, np.random.default_rng(0), shuffles)
    assert found.shape == (min(shuffles, rows - 1), rows)
    for row in range(rows):
        assert row not in found[:, row]
        assert len(set(found[:, row])) == len(found)
    for line in found:
        assert sorted(line) == list(range(rows))


def test_one_row_has_no_stranger_and_seeds_decide() -> None:
    assert strangers(1, np.random.default_rng(0)).shape == (0, 1)
    one, same, other = (strangers(50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
