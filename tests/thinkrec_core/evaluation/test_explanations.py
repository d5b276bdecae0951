"""Figures of explanations: values, floors and intervals against loops, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import sacrebleu

from thinkrec_core.errors import DataError
from thinkrec_core.evaluation.bootstrap import user_weights
from thinkrec_core.evaluation.explained import Explained
from thinkrec_core.evaluation.explanations import FIGURES, measure_explanations
from thinkrec_core.evaluation.shuffled import strangers
from thinkrec_core.evaluation.text.meteor import meteor
from thinkrec_core.evaluation.text.tokens import meteor_tokens

TITLES = ["", *(f"Long Film {number} ({1950 + number})" for number in range(1, 31))]
ROWS = 24


def made(rows: int = ROWS) -> Explained:
    """Traces that name one title of their own history, sometimes a strange one, and that argue as they are scored."""
    draw = np.random.default_rng(3)
    scores = draw.normal(size=rows)
    known = [frozenset((draw.permutation(30)[:4] + 1).tolist()) for _ in range(rows)]
    likes = ["will enjoy" if score > 0 else "will not enjoy" for score in scores]
    named = [TITLES[min(own)] if at % 3 else TITLES[(max(own) % 30) + 1] for at, own in enumerate(known)]
    kinds = draw.choice(["comedies", "dramas", "thrillers"], size=rows)
    texts = [f"The user liked {kind} such as {title}." for kind, title in zip(kinds, named, strict=True)]
    traces = [
        f"{text} So the user {like} it." if at % 4 else text
        for at, (text, like) in enumerate(zip(texts, likes, strict=True))
    ]
    references = [f"{text} It is close to {TITLES[max(own)]}." for text, own in zip(texts, known, strict=True)]
    return Explained(draw.integers(0, 9, rows), draw.integers(0, 2, rows), scores, traces, references, known)


def measured(explained: Explained, **named: Any) -> Any:
    return measure_explanations(explained, TITLES, 200, np.random.default_rng(5), **named)


def test_values_and_floors_are_means_over_the_same_pairs() -> None:
    explained = made()
    found = measured(explained)
    others = strangers(ROWS, np.random.default_rng(5))
    own = [meteor(*map(meteor_tokens, pair)) for pair in zip(explained.traces, explained.references, strict=True)]
    floor = [
        meteor(meteor_tokens(explained.traces[row]), meteor_tokens(explained.references[other]))
        for line in others
        for row, other in enumerate(line)
    ]
    metric = found.figures["metrics"]["meteor"]
    assert metric["value"] == pytest.approx(np.mean(own))
    assert metric["floor"] == pytest.approx(np.mean(floor))
    assert metric["difference"]["difference"] == pytest.approx(np.mean(own) - np.mean(floor))
    assert found.columns["meteor"] == pytest.approx(own)
    wanted = sacrebleu.corpus_bleu(list(explained.traces), [list(explained.references)]).score / 100
    assert found.figures["metrics"]["bleu"]["value"] == pytest.approx(wanted)


def test_intervals_are_those_of_whole_users() -> None:
    explained = made()
    found = measured(explained)
    values, user = np.array(found.columns["rouge_l"]), np.unique(explained.users, return_inverse=True)[1]
    # The same draws: the circle of strangers comes first out of the generator.
    generator = np.random.default_rng(5)
    strangers(ROWS, generator)
    blocks = user_weights(int(user.max()) + 1, ROWS, 200, generator)
    weights = np.concatenate(list(blocks))[:, user]
    draws = (weights * values).sum(axis=1) / weights.sum(axis=1)
    assert found.figures["metrics"]["rouge_l"]["ci"] == pytest.approx(np.quantile(draws, [0.025, 0.975]))
    for name, metric in found.figures["metrics"].items():
        if metric is not None:
            assert metric["ci"][0] <= metric["value"] <= metric["ci"][1], name
            assert metric["floor_ci"][0] <= metric["floor_ci"][1]


def test_consistency_counts_what_speaks() -> None:
    found = measured(made())
    assert found.figures["verdicts"] == {"consistent": 18, "contradicting": 0, "silent": 6}
    metric = found.figures["metrics"]["consistency"]
    assert (metric["value"], metric["rows"]) == (1.0, 18)
    assert metric["floor"] < 0.8
    turned = dataclasses.replace(made(), scores=-made().scores)
    assert measured(turned).figures["metrics"]["consistency"]["value"] == 0.0


def test_groundedness_lists_what_it_counts() -> None:
    explained = made()
    found = measured(explained)
    strange = sum(len(titles) for titles in found.columns["ungrounded"])
    assert found.figures["titles"] == {"named": ROWS, "ungrounded": strange, "unknown": 0, "rows_without": 0}
    assert 1 <= strange <= 8
    assert found.figures["metrics"]["groundedness"]["value"] == pytest.approx(1 - strange / ROWS)
    assert found.figures["metrics"]["groundedness"]["floor"] < 0.5
    for row, titles in enumerate(found.columns["ungrounded"]):
        assert all(TITLES.index(title + ")") not in explained.known[row] for title in titles)


def test_perfect_texts_reach_the_top_and_floors_do_not() -> None:
    explained = made()
    same = dataclasses.replace(explained, references=list(explained.traces))
    metrics = measured(same).figures["metrics"]
    assert metrics["bleu"]["value"] == metrics["rouge_l"]["value"] == pytest.approx(1.0)
    assert metrics["meteor"]["value"] > 0.99
    for name in ("bleu", "rouge_l", "meteor"):
        assert metrics[name]["floor"] < 0.9
        assert metrics[name]["difference"]["ci"][0] > 0
        assert metrics[name]["difference"]["p"] <= 2 / 201


def test_texts_that_say_the_same_to_everybody_do_not_beat_their_floor() -> None:
    explained = dataclasses.replace(made(), traces=["The user liked films and will enjoy it."] * ROWS)
    metric = measured(explained).figures["metrics"]["rouge_l"]
    low, high = metric["difference"]["ci"]
    assert low <= 0 <= high
    assert measured(explained).figures["distinct"]["distinct_1"]["traces"] < 0.05


def test_one_row_has_no_floor_and_json_takes_all() -> None:
    found = measured(made(1))
    metric = found.figures["metrics"]["meteor"]
    assert metric["floor"] is None
    assert metric["difference"] == {"difference": None, "ci": None, "p": None}
    assert found.figures["shuffles"] == 0
    for values in (found, measured(made())):
        text = json.dumps([values.figures, values.columns], allow_nan=False)
        assert all(name in text for name in FIGURES)
    assert found.figures["metrics"]["bertscore_f1"] is None


def test_equal_inputs_give_equal_figures() -> None:
    assert measured(made()).figures == measured(made()).figures


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scores": np.full(ROWS, np.nan)}, "scores holds nan at row 0"),
        ({"labels": np.full(ROWS, 2)}, "label 2 at row 0"),
        ({"traces": ["a"]}, "'traces': 1"),
        ({"references": [" "] * ROWS}, "the reference of row 0 is empty"),
        ({"users": np.zeros(3)}, "users have shape"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        dataclasses.replace(made(), **change)
    with pytest.raises(DataError, match="at least one row"):
        Explained(np.zeros(0), np.zeros(0), np.zeros(0), [], [], [])
