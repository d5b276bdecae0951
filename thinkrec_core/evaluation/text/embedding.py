"""Meaning beyond words: cosine of sentence embeddings, and BERTScore (Zhang et al., ICLR 2020), with a given encoder.

Shape suffixes: B texts, T tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

BATCH = 32


@dataclass(frozen=True)
class EmbeddedText:
    """One text as an encoder sees it; all vectors have length 1."""

    sentence_H: torch.Tensor
    """Mean of the token vectors."""
    tokens_TH: torch.Tensor
    """Special tokens included: BERTScore lets words match them."""
    counted_T: torch.Tensor
    """False at the begin and end tokens, which BERTScore averages over no more than over padding."""


class TextEncoder:
    """An encoder of transformers with its fast tokenizer.

    Args:
        model: gives last_hidden_state, and hidden_states where a layer is asked for.
        layer: which layer's vectors BERTScore compares, as published per model; None takes the last. Sentence vectors are
            always the mean of the last layer, as sentence-transformers pools.
    """

    def __init__(self, model: Any, tokenizer: Any, layer: int | None = None) -> None:
        self._model, self._tokenizer, self._layer = model.eval(), tokenizer, layer
        pad = tokenizer.pad_token_id
        self._pad = pad if pad is not None else (tokenizer.eos_token_id or 0)
        bound = getattr(model.config, "max_position_embeddings", None) or 512
        self._limit = min(int(bound) - 2, 512)  # RoBERTa counts positions from 2

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> list[EmbeddedText]:
        """One embedding per text; texts longer than the encoder reads are cut."""
        made = self._tokenizer(list(texts), truncation=True, max_length=self._limit, return_special_tokens_mask=True)
        order = sorted(range(len(texts)), key=lambda index: len(made["input_ids"][index]))
        found: dict[int, EmbeddedText] = {}
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            rows = [made["input_ids"][index] or [self._pad] for index in chosen]
            width = max(map(len, rows))
            ids_BT = torch.full((len(rows), width), self._pad)
            mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
            for number, row in enumerate(rows):
                ids_BT[number, : len(row)] = torch.tensor(row)
                mask_BT[number, : len(row)] = 1
            out = self._model(input_ids=ids_BT, attention_mask=mask_BT, output_hidden_states=self._layer is not None)
            last_BTH = out.last_hidden_state.float()
            tokens_BTH = last_BTH if self._layer is None else out.hidden_states[self._layer].float()
            for number, index in enumerate(chosen):
                size = len(rows[number])
                special = made["special_tokens_mask"][index] or [1]
                found[index] = EmbeddedText(
                    functional.normalize(last_BTH[number, :size].mean(dim=0), dim=-1),
                    functional.normalize(tokens_BTH[number, :size], dim=-1),
                    ~torch.tensor(special, dtype=torch.bool),
                )
        return [found[index] for index in range(len(texts))]


def cosine(one: EmbeddedText, other: EmbeddedText) -> float:
    """The cosine of two texts' sentence vectors, -1..1."""
    return float(one.sentence_H @ other.sentence_H)


def bertscore(hypothesis: EmbeddedText, reference: EmbeddedText) -> float:
    """BERTScore F1 of two texts: neither idf weights nor rescaling; 0 where a text has no word.

    Formula: 2 P R / (P + R); P is the mean over the words of the hypothesis of the best cosine with a token of the reference,
    R the same the other way round.
    """
    if not (hypothesis.counted_T.any() and reference.counted_T.any()):
        return 0.0
    cosines_TT = hypothesis.tokens_TH @ reference.tokens_TH.T
    precision = float(cosines_TT.max(dim=1).values[hypothesis.counted_T].mean())
    recall = float(cosines_TT.max(dim=0).values[reference.counted_T].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
