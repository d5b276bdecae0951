from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrec_core.errors import DataError
from thinkrec_core.reflection.wrong_predictions import select_wrong, summarise_wrong
from thinkrec_core.seeds import generator

LABELS = [1, 1, 0, 0, 1, 0]
LOGITS = [-1.0, 2.0, 0.5, -3.0, 0.0, 4.0]
# sigmoid(0) = .5 is not above .5: row 4 (liked) is wrong, and so are 0, 2 and 5.


def test_wrong_rows_are_those_on_the_other_side_of_one_half() -> None:
    assert select_wrong(LABELS, LOGITS, 99, generator(1)).tolist() == [0, 2, 4, 5]


def test_half_of_each_label_is_kept_and_the_draw_is_seeded() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 400), rng.normal(size=400)
    chosen = select_wrong(labels, logits, 20, generator(7, "w"))
    assert labels[chosen].sum() == 10
    assert (chosen == np.sort(chosen)).all()
    assert (chosen == select_wrong(labels, logits, 20, generator(7, "w"))).all()
    assert chosen.tolist() != select_wrong(labels, logits, 20, generator(8, "w")).tolist()


def test_an_enlarged_sample_keeps_every_row_of_the_smaller_one() -> None:
    rng = np.random.default_rng(1)
    labels, logits = (rng.random(300) < 0.2).astype(int), rng.normal(size=300)
    sizes = [set(select_wrong(labels, logits, rows, generator(7, "w")).tolist()) for rows in range(1, 160)]
    assert all(small <= large for small, large in pairwise(sizes))


def test_the_summary_counts_per_gold_label() -> None:
    summary = summarise_wrong(LABELS, LOGITS, select_wrong(LABELS, LOGITS, 3, generator(1)))
    assert (summary.scored, summary.wrong, summary.kept) == ((3, 3), (2, 2), (2, 1))
    assert summary.warning == ""
    assert summary.as_dict()["wrong_share_by_label"] == [2 / 3, 2 / 3]
    assert summary.as_dict()["rows"] == 3


@pytest.mark.parametrize(("label", "word"), [(1, "liked"), (0, "disliked")])
def test_a_one_class_set_is_warned_about(label: int, word: str) -> None:
    labels, logits = [label, label, 1 - label], [1.0 - 2 * label, 1.0 - 2 * label, 1.0 - 2 * label]
    summary = summarise_wrong(labels, logits, select_wrong(labels, logits, 8, generator(1)))
    assert f"the user {word}:" in summary.warning


def test_nothing_wrong_is_a_warning_too() -> None:
    chosen = select_wrong([1, 0], [1.0, -1.0], 8, generator(1))
    assert chosen.tolist() == []
    assert "no wrong prediction" in summarise_wrong([1, 0], [1.0, -1.0], chosen).warning


def test_a_score_that_is_no_number_is_refused_by_row() -> None:
    with pytest.raises(DataError, match="score nan of row 1"):
        select_wrong([1, 0], [1.0, float("nan")], 8, generator(1))


def test_vectors_of_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        select_wrong([1, 0], [1.0], 8, generator(1))


@given(
    pairs=st.lists(st.tuples(st.integers(0, 1), st.floats(-9, 9)), max_size=60),
    rows=st.integers(1, 30),
    seed=st.integers(0, 9),
)
def test_the_laws_of_the_selection(pairs: list[tuple[int, float]], rows: int, seed: int) -> None:
    labels = np.array([label for label, _ in pairs], dtype=int)
    logits = np.array([logit for _, logit in pairs], dtype=float)
    chosen = select_wrong(labels, logits, rows, generator(seed))
    wrong = [sum(1 for y, s in pairs if y == label and (s > 0) != (y == 1)) for label in (0, 1)]
    assert len(set(chosen.tolist())) == len(chosen) == min(rows, sum(wrong))
    assert all((logits[row] > 0) != (labels[row] == 1) for row in chosen)
    kept = [int((labels[chosen] == label).sum()) for label in (0, 1)]
    # A label misses its half only where it has no more rows, or the odd row went to the other.
    assert all(kept[label] == wrong[label] or kept[label] >= rows // 2 for label in (0, 1))
