"""Cosine and BERTScore with a real encoder of transformers (tiny, random), against loops over the formula."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel

from tests.tiny_model import one_thread, tiny_tokenizer  # noqa: F401 - a fixture
from thinkrec_core.evaluation.text.embedding import TextEncoder, bertscore, cosine

TEXTS = ["The user liked comedies.", "The user disliked dramas and liked comedies (1995).", "Yes", "", "No item " * 300]


@pytest.fixture(scope="module")
def model() -> BertModel:
    config = BertConfig(
        vocab_size=400, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, pad_token_id=3
    )
    torch.manual_seed(0)
    return BertModel(config).eval()


@torch.no_grad()
def vectors(model: BertModel, text: str, layer: int) -> tuple[list[int], torch.Tensor]:
    """Ids and vectors of one text alone, without padding."""
    ids = tiny_tokenizer()(text).input_ids[:510]
    return ids, model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]


@pytest.mark.parametrize("layer", [None, 1])
def test_bertscore_is_the_formula(model: BertModel, layer: int | None) -> None:
    encoder = TextEncoder(model, tiny_tokenizer(), layer)
    embedded = encoder.embed(TEXTS)
    for one in (0, 1, 2):
        for other in (1, 2, 4):
            (ids, own), (other_ids, theirs) = (
                vectors(model, TEXTS[at], -1 if layer is None else layer) for at in (one, other)
            )
            similar = [[float(torch.cosine_similarity(a, b, dim=0)) for b in theirs] for a in own]
            begin = tiny_tokenizer().bos_token_id
            precision = [max(row) for row, token in zip(similar, ids, strict=True) if token != begin]
            recall = [
                max(column)
                for column, token in zip(zip(*similar, strict=True), other_ids, strict=True)
                if token != begin
            ]
            p, r = sum(precision) / len(precision), sum(recall) / len(recall)
            assert bertscore(embedded[one], embedded[other]) == pytest.approx(2 * p * r / (p + r), abs=1e-5)


def test_cosine_is_that_of_mean_vectors(model: BertModel) -> None:
    embedded = TextEncoder(model, tiny_tokenizer()).embed(TEXTS)
    means = [vectors(model, text, -1)[1].mean(dim=0) for text in TEXTS]
    for one in range(len(TEXTS)):
        assert cosine(embedded[one], embedded[one]) == pytest.approx(1, abs=1e-5)
        for other in range(len(TEXTS)):
            wanted = float(torch.cosine_similarity(means[one], means[other], dim=0))
            assert cosine(embedded[one], embedded[other]) == pytest.approx(wanted, abs=1e-5)


def test_a_text_without_words_scores_nothing(model: BertModel) -> None:
    embedded = TextEncoder(model, tiny_tokenizer()).embed(["", "The user"])
    assert bertscore(embedded[0], embedded[1]) == 0.0
