"""Synthetic interactions: exact counts, equal seeds, and a truth that the rows obey."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from thinkrec_core import synthetic as module
from thinkrec_core.errors import DataError
from thinkrec_core.synthetic import SyntheticSpec, blocks_of, plant, synthetic

SPEC = SyntheticSpec(users=300, items=200, rows=9_000, clusters=3)


def test_exact_rows_distinct_pairs_and_rising_times() -> None:
    rows = synthetic(SPEC).interactions
    assert len(rows.user_id) == 9_000
    assert set(rows.user_id) == set(range(1, 301))
    assert rows.item_id.min() >= 1
    assert rows.item_id.max() <= 200
    assert len(np.unique(rows.user_id * 1000 + rows.item_id)) == 9_000
    assert (np.lexsort((rows.timestamp, rows.user_id)) == np.arange(9_000)).all()
    assert np.bincount(rows.user_id)[1:].min() >= module.LEAST_ROWS
    tied = (np.diff(rows.timestamp) == 0) & (np.diff(rows.user_id) == 0)
    assert tied.mean() == pytest.approx(SPEC.ties, abs=0.02)


def test_equal_seeds_give_equal_rows_and_blocks_hold_whole_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 500)
    one, two = synthetic(SPEC), synthetic(SPEC)
    for name in ("user_id", "item_id", "rating", "timestamp"):
        assert np.array_equal(getattr(one.interactions, name), getattr(two.interactions, name))
    assert (one.titles, one.genres) == (two.titles, two.genres)
    other = synthetic(dataclasses.replace(SPEC, seed=8)).interactions
    assert not np.array_equal(one.interactions.item_id, other.item_id)
    blocks = [set(block.user_id) for block in blocks_of(plant(SPEC))]
    assert len(blocks) > 10
    assert sum(map(len, blocks)) == len(set().union(*blocks)) == 300


def test_the_labels_follow_the_planted_logit() -> None:
    data = synthetic(dataclasses.replace(SPEC, rows=12_000))
    rows, truth = data.interactions, data.truth
    logit = truth.logit(rows.user_id - 1, rows.item_id - 1, rows.timestamp)
    expected = 1 / (1 + np.exp(-logit))
    for low in np.arange(0, 1, 0.2):
        inside = (expected >= low) & (expected < low + 0.2)
        assert rows.label[inside].mean() == pytest.approx(expected[inside].mean(), abs=0.04)
    assert roc_auc_score(rows.label, logit) > 0.8
    still = truth.moved_at > rows.timestamp.max()
    assert 1 - still.mean() == pytest.approx(SPEC.drift, abs=0.06)


def test_who_moves_likes_other_items_afterwards() -> None:
    data = synthetic(dataclasses.replace(SPEC, drift=1.0, rows=12_000))
    rows, truth = data.interactions, data.truth
    user, cluster = rows.user_id - 1, truth.item_cluster[rows.item_id - 1]
    after = rows.timestamp >= truth.moved_at[user]
    for moved in (False, True):
        own = np.where(moved, truth.later_cluster, truth.user_cluster)[user] == cluster
        part = after == moved
        assert rows.label[part & own].mean() > rows.label[part & ~own].mean() + 0.3


def test_popularity_and_exposure_shape_what_is_met() -> None:
    data = synthetic(SyntheticSpec(users=2_000, items=2_000, rows=40_000, exposure=1.0, drift=0.0))
    rows, truth = data.interactions, data.truth
    count = np.bincount(rows.item_id, minlength=2_001)[1:]
    assert np.corrcoef(count, truth.popularity)[0, 1] > 0.7
    own = truth.user_cluster[rows.user_id - 1] == truth.item_cluster[rows.item_id - 1]
    assert own.mean() > 0.95
    assert all(module.GENRES[c] in text.split("|") for c, text in zip(truth.item_cluster, data.genres, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 20_000}, r"20000 rows for 300 users and 200 items; expected 300 to 15000 rows"),
        ({"rows": 10}, "10 rows for 300 users"),
        ({"clusters": 21}, "clusters is 21; expected 1 to 20"),
        ({"clusters": 0}, "clusters is 0"),
        ({"drift": 1.5}, "drift is 1.5"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataclasses.replace(SPEC, **changes)


@pytest.mark.parametrize("rows", [300, 900, 15_000])
def test_the_extremes(rows: int) -> None:
    found = synthetic(dataclasses.replace(SPEC, rows=rows)).interactions
    assert len(found.user_id) == rows
    assert len(np.unique(found.user_id * 1000 + found.item_id)) == rows
