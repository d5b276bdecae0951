"""Rows as arrays: selection and padded histories against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkrec_core.encoders.examples import Examples
from thinkrec_core.errors import DataError

ROW = st.tuples(
    st.integers(1, 4), st.integers(1, 9), st.integers(0, 1), st.lists(st.tuples(st.integers(1, 9), st.integers(0, 1)))
)


def examples(rows: list[tuple[int, int, int, list[tuple[int, int]]]]) -> Examples:
    user, item, label = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    offsets = np.cumsum([0, *[len(row[3]) for row in rows]])
    items = np.array([entry[0] for row in rows for entry in row[3]], np.int64)
    labels = np.array([entry[1] for row in rows for entry in row[3]], np.int64)
    return Examples(user, item, label, offsets, items, labels)


def padded(values: list[int], length: int) -> list[int]:
    newest = values[-length:] if length else []
    return [0] * (length - len(newest)) + newest


@given(st.lists(ROW, max_size=12), st.integers(0, 4))
def test_histories_and_last_likes_against_loops(rows: list, length: int) -> None:
    found = examples(rows)
    liked = [padded([item for item, label in row[3] if label], length) for row in rows]
    assert found.liked_histories(length).tolist() == liked
    last = [padded([item for user, item, label, _ in rows if user == u and label], length) for u in range(5)]
    assert found.last_likes(4, length).tolist() == last


@given(st.lists(ROW, max_size=12), st.data())
def test_selected_rows_keep_their_histories(rows: list, data: st.DataObject) -> None:
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    found = examples(rows).rows(chosen)
    expected = examples([row for row, keep in zip(rows, chosen, strict=True) if keep])
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value)


def test_lengths_and_labels_are_checked() -> None:
    one = np.ones(1, np.int64)
    with pytest.raises(DataError, match="label 2 in row 0"):
        Examples(one, one, one * 2, np.array([0, 0]), one[:0], one[:0])
    with pytest.raises(DataError, match="equal lengths"):
        Examples(one, one, one, np.array([0]), one[:0], one[:0])
