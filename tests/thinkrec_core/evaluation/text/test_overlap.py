"""BLEU, ROUGE-L and METEOR equal the libraries that the field takes its figures from, on random texts."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
from nltk.translate.meteor_score import single_meteor_score
from rouge_score.rouge_scorer import RougeScorer

from thinkrec_core.evaluation.text.bleu import bleu, bleu_counts
from thinkrec_core.evaluation.text.distinct import distinct
from thinkrec_core.evaluation.text.meteor import meteor
from thinkrec_core.evaluation.text.rouge import common_length, rouge_l
from thinkrec_core.evaluation.text.tokens import bleu_tokens, meteor_tokens, rouge_tokens

SENTENCE = (
    "the user likes liked liking comedies comedy dramas drama films of 1995 , . 'Fargo' (1996) don't well-made 3.5 &amp; "
    'U.S. "Heat" happily happiness was not because 1,000 -- naïve'
)
WORDS = SENTENCE.split()


class NoSynonyms:
    """Stands in for WordNet, which is a download: no word has a synonym."""

    def synsets(self, word: str) -> list[str]:
        return []


def texts(seed: int, count: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, size=draw.integers(0, 30))) for _ in range(count)]


PAIRS = list(zip(texts(1, 150), texts(2, 150), strict=True))


def test_tokens_of_bleu_are_those_of_13a() -> None:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    cut = Tokenizer13a()
    for text in [*texts(3, 50), "a-\nb\nc <skipped> 1.5, 2,x .5 9-3 {x} [y] ~ @/"]:
        assert bleu_tokens(text) == cut(text).split()


def test_corpus_bleu_is_that_of_sacrebleu() -> None:
    counts = np.array([bleu_counts(bleu_tokens(one), bleu_tokens(other)) for one, other in PAIRS])
    wanted = sacrebleu.corpus_bleu([one for one, _ in PAIRS], [[other for _, other in PAIRS]]).score
    assert wanted > 1
    assert 100 * float(bleu(counts.sum(axis=0))) == pytest.approx(wanted, abs=1e-9)


def test_bleu_of_single_texts_is_that_of_sacrebleu() -> None:
    for one, other in [*PAIRS, ("a b c", "a b d"), ("a", "a"), ("", "a"), ("x", "y")]:
        wanted = sacrebleu.sentence_bleu(one, [other]).score
        found = bleu(bleu_counts(bleu_tokens(one), bleu_tokens(other)), effective_order=True)
        assert 100 * float(found) == pytest.approx(wanted, abs=1e-9)


def test_bleu_of_many_counts_at_once_is_that_of_each() -> None:
    counts = np.array([bleu_counts(bleu_tokens(one), bleu_tokens(other)) for one, other in PAIRS])
    np.testing.assert_array_equal(bleu(counts), [float(bleu(row)) for row in counts])


def test_rouge_l_is_that_of_rouge_score() -> None:
    scorer = RougeScorer(["rougeL"])
    for one, other in PAIRS:
        wanted = scorer.score(other, one)["rougeL"].fmeasure
        assert rouge_l(rouge_tokens(one), rouge_tokens(other)) == pytest.approx(wanted, abs=1e-12)


def test_the_longest_common_subsequence_by_hand() -> None:
    assert common_length(list("abcde"), list("xbadce")) == 3
    assert common_length([], ["a"]) == 0
    assert common_length(["a"] * 200, ["a"] * 150) == 150


def test_meteor_is_that_of_nltk_without_synonyms() -> None:
    above = 0
    for one, other in PAIRS:
        own, reference = meteor_tokens(one), meteor_tokens(other)
        wanted = single_meteor_score(reference, own, wordnet=NoSynonyms()) if own and reference else 0.0
        above += wanted > 0.1
        assert meteor(own, reference) == pytest.approx(wanted, abs=1e-12)
    assert above > 50


def test_meteor_by_hand() -> None:
    # Three of four words match in two runs: P = R = 3/4, penalty .5 (2/3)^3.
    assert meteor(list("abxd"), list("abyd")) == pytest.approx(0.75 * (1 - 0.5 * (2 / 3) ** 3))
    assert meteor(["liking"], ["liked"]) == pytest.approx(0.5)  # by the stem; one match is one run
    assert meteor([], ["a"]) == meteor(["a"], ["b"]) == 0.0


def test_distinct_by_hand() -> None:
    assert distinct([["a", "b", "a"], ["a", "b"]], 1) == 2 / 5
    assert distinct([["a", "b", "a"], ["a", "b"]], 2) == 2 / 3
    assert distinct([["a"], []], 2) is None
