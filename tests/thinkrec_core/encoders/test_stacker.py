"""The stacker: what its features may see, that they are reproducible, and that content tells it something."""

from __future__ import annotations

import numpy as np
import pytest

from thinkrec_core.config.ladder import BiasConfig, StackerConfig
from thinkrec_core.encoders import stacker
from thinkrec_core.encoders.bias import fit_bias
from thinkrec_core.encoders.content import item_content
from thinkrec_core.encoders.examples import Examples, Sizes
from thinkrec_core.encoders.stacker import StackerFeatures, TimedExamples, boosted_logits
from thinkrec_core.evaluation.auc import auc

USERS, ITEMS, EACH = 60, 20, 16
CONTENT = item_content(["T"] * ITEMS, ["Horror" if item % 2 else "Comedy" for item in range(1, ITEMS + 1)])
CONFIG = StackerConfig(folds=3, replicas=2, iterations=40)


def world(seed: int = 0) -> tuple[TimedExamples, Examples]:
    """Each user likes the items of one genre; the first 12 rows of a user are for training."""
    draw = np.random.default_rng(seed)
    taste = draw.integers(0, 2, USERS + 1)
    parts: tuple[list[list[int]], list[list[int]]] = ([], [])
    for user in range(1, USERS + 1):
        items = draw.permutation(np.arange(1, ITEMS + 1))[:EACH]
        labels = (draw.random(EACH) < np.where(items % 2 == taste[user], 0.9, 0.1)).astype(int)
        for place in range(EACH):
            liked = [int(item) for item, label in zip(items[:place], labels[:place], strict=True) if label]
            parts[place >= 12].append([user, int(items[place]), int(labels[place]), place, *liked])
    train = sorted(parts[0], key=lambda row: row[3])
    time = np.array([row[3] for row in train])
    return TimedExamples(_examples(train), time), _examples(parts[1])


def _examples(rows: list[list[int]]) -> Examples:
    user, item, label = (np.array([row[place] for row in rows]) for place in range(3))
    offsets = np.concatenate([[0], np.cumsum([len(row) - 4 for row in rows])])
    liked = np.array([item for row in rows for item in row[4:]], np.int64)
    return Examples(user, item, label, offsets, liked, np.ones(len(liked), np.int64))


def features(train: TimedExamples, labelled: bool = False) -> StackerFeatures:
    draw = np.random.default_rng(3)
    return StackerFeatures(CONFIG, BiasConfig(), train, CONTENT, Sizes(USERS, ITEMS), labelled, draw)


def test_equal_inputs_give_equal_logits_that_beat_the_main_effects() -> None:
    train, later = world()
    scores = []
    for _ in range(2):
        made = features(train)
        x, y = made.train()
        assert len(x) == len(y) == CONFIG.replicas * len(train.rows)
        scores += boosted_logits(CONFIG, x, y, [made.later(later)], 1)
    np.testing.assert_array_equal(*scores)
    bias = fit_bias(
        BiasConfig(), train.rows.user_idx, train.rows.item_idx, train.rows.label, CONTENT, Sizes(USERS, ITEMS)
    )
    floor = auc(bias.score(later.user_idx, later.item_idx), later.label)
    found = auc(scores[0], later.label)
    assert floor is not None
    assert found is not None
    assert found > max(0.8, floor + 0.1)


def test_a_train_row_does_not_see_its_own_label_or_later_ones() -> None:
    train, _ = world()
    x, _ = features(train).train()
    # A row's features may know labels of its user before the row only: flip all others of one user.
    row = 5 * USERS  # a row of the sixth moment
    user, time = train.rows.user_idx[row], train.timestamp[row]
    changed = train.rows.label.copy()
    flip = (train.rows.user_idx == user) & (train.timestamp >= time)
    changed[flip] = 1 - changed[flip]
    rows = train.rows
    other = Examples(
        rows.user_idx, rows.item_idx, changed, rows.history_offsets, rows.history_items, rows.history_labels
    )
    again, _ = features(TimedExamples(other, train.timestamp)).train()
    assert flip.sum() > 1
    for copy in range(CONFIG.replicas):
        np.testing.assert_array_equal(x[copy * len(rows) + row], again[copy * len(rows) + row])


@pytest.mark.parametrize("labelled", [False, True])
def test_rows_after_training_know_all_train_labels(labelled: bool) -> None:
    train, later = world()
    x = features(train, labelled).later(later)
    assert x.shape == (len(later), 22 if labelled else 38)
    assert np.isfinite(x).all()
    if not labelled:
        known = np.bincount(train.rows.user_idx)[later.user_idx]
        np.testing.assert_array_equal(x[:, 22], known)


@pytest.mark.parametrize("labelled", [False, True])
def test_features_are_the_same_in_parts_of_any_size(labelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    train, later = world()
    whole = [features(train, labelled).train()[0], features(train, labelled).later(later)]
    for entries in (1, 40):  # one row at a time, even one whose history is longer than a part
        monkeypatch.setattr(stacker, "ENTRIES", entries)
        made = features(train, labelled)
        np.testing.assert_allclose(made.train()[0], whole[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(made.later(later), whole[1], rtol=1e-12, atol=1e-12)


def test_the_booster_sees_no_more_rows_than_it_may() -> None:
    train, _ = world()
    rows = len(train.rows)
    for limit, expected in ((rows // 3, rows // 3), (rows, rows), (2 * rows - 1, rows), (9 * rows, 2 * rows)):
        config = CONFIG.model_copy(update={"fit_rows": limit})
        draw = np.random.default_rng(3)
        x, y = StackerFeatures(config, BiasConfig(), train, CONTENT, Sizes(USERS, ITEMS), False, draw).train()
        assert len(x) == len(y) == expected
