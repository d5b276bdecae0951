"""The bias model: its optimum against scikit-learn, unknown ids, and the streaming offset."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from thinkrec_core.config.ladder import BiasConfig
from thinkrec_core.encoders.bias import Term, fit_bias, fit_terms
from thinkrec_core.encoders.content import item_content
from thinkrec_core.encoders.examples import Examples, Sizes

TITLES = [f"Item {index} ({1950 + 5 * index})" for index in range(10)]
CONTENT = item_content(TITLES, [""] * 10)


def rows(seed: int = 0, size: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    users, items = draw.integers(1, 7, size), draw.integers(1, 10, size)
    logit = draw.normal(size=8)[users] + draw.normal(size=11)[items]
    return users, items, (draw.random(size) < 1 / (1 + np.exp(-logit))).astype(np.int64)


def test_the_optimum_is_that_of_scikit_learn() -> None:
    users, items, labels = rows()
    value = np.random.default_rng(1).normal(size=len(users))
    ridges = (2.0, 0.5, 4.0)
    terms = [Term(users, np.ones(400), 8, 2.0), Term(items, np.ones(400), 11, 0.5), Term(users, value, 8, 4.0)]
    design = np.zeros((402, 8 + 11 + 8))
    for start, term, ridge in zip((0, 8, 19), terms, ridges, strict=True):
        design[np.arange(400), start + term.index] = term.value / np.sqrt(ridge)  # unit penalty on scaled columns
    # The half like and half dislike that keep mu finite are two rows of weight one half without any effect.
    weight = np.r_[np.ones(400), 0.5, 0.5]
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(design, np.r_[labels, 1, 0], weight)
    mu, effects = fit_terms(terms, labels)
    assert mu == pytest.approx(float(reference.intercept_[0]), abs=2e-3)
    for start, ridge, found in zip((0, 8, 19), ridges, effects, strict=True):
        expected = reference.coef_[0, start : start + len(found)] / np.sqrt(ridge)
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_one_class_stays_finite() -> None:
    mu, (effect,) = fit_terms([Term(np.ones(20, np.int64), np.ones(20), 3, 1.0)], np.ones(20, np.int64))
    assert np.isfinite(mu)
    assert np.isfinite(effect).all()


def test_unknown_users_and_items_fall_back_to_mu_and_decade() -> None:
    users, items, labels = rows()
    model = fit_bias(BiasConfig(), users, items, labels, CONTENT, Sizes(8, 10))
    assert model.user[8] == model.user_year[8] == 0.0
    assert (items != 10).all()
    known_of_decade = model.item[CONTENT.decade == CONTENT.decade[10]]
    assert known_of_decade.min() <= model.item[10] <= known_of_decade.max()


def test_the_streaming_offset_follows_the_labels_of_the_history() -> None:
    users, items, labels = rows()
    model = fit_bias(BiasConfig(), users, items, labels, CONTENT, Sizes(8, 10))
    both = Examples(
        user_idx=np.array([8, 8, 8]),
        item_idx=np.array([3, 3, 3]),
        label=np.array([1, 0, 1]),
        history_offsets=np.array([0, 0, 3, 6]),
        history_items=np.array([1, 2, 4, 1, 2, 4]),
        history_labels=np.array([1, 1, 1, 0, 0, 0]),
    )
    empty, liked, disliked = model.streaming(both, BiasConfig())
    assert empty == pytest.approx(model.item[3])
    assert disliked < empty < liked
    config = BiasConfig()
    weight = 2.0 ** (-np.array([2, 1, 0]) / config.half_life)
    p = 1 / (1 + np.exp(-(model.item[[1, 2, 4]] + (liked - empty))))
    assert weight @ (1 - p) == pytest.approx(config.ridge_streaming * (liked - empty), abs=1e-6)


def test_content_of_titles_and_keywords() -> None:
    found = item_content(["Alien (1979)", "V", "Up (2009) "], ["Horror, Sci-Fi", "", "Comedy"])
    assert found.year.tolist() == [0, 1979, 0, 2009]
    np.testing.assert_allclose(found.genres @ found.genres.T, np.diag([0.0, 1.0, 0.0, 1.0]), atol=1e-12)
    assert found.decade.tolist() == [0, 18, 0, 21]
