"""The LLM recommender: soft tokens in, the answer's logit and the two losses out.

Shape suffixes: B examples, T prompt tokens, L answer tokens, S slots, F slot inputs, H hidden size, N selected positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from thinkrec_core.errors import ModelError
from thinkrec_core.recllm.answers import AnswerTokens
from thinkrec_core.recllm.depth import last_mlp_only_at, only_layers, run_body
from thinkrec_core.recllm.examples import IGNORED, Batch
from thinkrec_core.recllm.projector import Projector

CE_CHUNK = 512
"""Answer positions per slice of full-vocabulary logits: bounds their memory."""


@dataclass(frozen=True)
class ScoreOptions:
    """score = scale * (Yes logit [- No logit] - offset) + prior."""

    score: Literal["yes", "yes_minus_no"] = "yes"
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class LossSums:
    """Sums, not means: the caller divides by the counts of the whole global batch."""

    bce: torch.Tensor
    ce: torch.Tensor


class RecLLM(nn.Module):
    """A causal LM whose prompt embeddings are overwritten by projected collaborative vectors at recorded positions.

    Args:
        lm: a causal LM of transformers, bare or wrapped by PEFT; whatever is injected into it takes part.
        projector: makes the soft tokens.
        answers: token ids of Yes and No.
        options: how the logit becomes a score.
    """

    def __init__(self, lm: nn.Module, projector: Projector, answers: AnswerTokens, options: ScoreOptions) -> None:
        super().__init__()
        self.lm, self.projector, self.answers, self.options = lm, projector, answers, options
        self.answer_rows_2H: torch.Tensor
        causal = self.causal
        rows = torch.tensor([answers.yes_id, answers.no_id])
        # The head is frozen, so its two rows that matter are kept in fp32: a bf16 logit near 16 has steps of .06.
        self.register_buffer("answer_rows_2H", causal.get_output_embeddings().weight.detach()[rows].float(), False)
        self._softcap: float | None = getattr(causal.config, "final_logit_softcapping", None)

    @property
    def causal(self) -> Any:
        """The transformers causal LM under any PEFT wrapper."""
        wrapped: Any = self.lm
        return wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped

    def forward(self, batch: Batch) -> LossSums:
        """Sums over the batch of BCE(score, label) and of the cross-entropy of the answer tokens."""
        hidden_BTH = self.hidden(batch, batch.read(with_answers=True))
        score_B = self._scores(self._last(hidden_BTH, batch)) + batch.prior_B
        bce = F.binary_cross_entropy_with_logits(score_B, batch.label_B, reduction="sum")
        return LossSums(bce, self._answer_nll(hidden_BTH, batch))

    def score(self, batch: Batch) -> torch.Tensor:
        """(B,) score of each example, prior included; fp32 (fp64 in an fp64 model) from the last hidden state on."""
        return self.score_hidden(self.hidden(batch, batch.read(with_answers=False)), batch)

    def score_hidden(self, hidden_BTH: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(B,) score from last hidden states."""
        return self._scores(self._last(hidden_BTH, batch)) + batch.prior_B

    def next_token_logits(self, batch: Batch) -> torch.Tensor:
        """(B, vocabulary) logits at the answer positions."""
        return self._logits(self._last(self.hidden(batch, batch.read(with_answers=False)), batch))

    def embed(self, batch: Batch) -> torch.Tensor:
        """(B, T, H) input embeddings with every slot's soft tokens in place."""
        embeds_BTH = self.causal.get_input_embeddings()(batch.input_ids_BT)
        if not len(batch.slot_position_S):
            return embeds_BTH
        soft_SKH = self.projector(batch.slot_inputs_SF.to(self.projector.inner.weight.dtype))
        steps_K = torch.arange(soft_SKH.shape[1], device=soft_SKH.device)
        position_SK = batch.slot_position_S[:, None] + steps_K
        example_SK = batch.slot_example_S[:, None].expand_as(position_SK)
        return embeds_BTH.index_put((example_SK, position_SK), soft_SKH.to(embeds_BTH.dtype))

    def hidden(self, batch: Batch, read_BT: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T, H) last hidden states; the lower layers are left out where the batch brings what they make.

        Args:
            read_BT: where they will be read: elsewhere they are not those of the LM. None: everywhere.
        """
        body = self.causal.base_model
        if read_BT is not None:
            with last_mlp_only_at(body, read_BT):
                return self.hidden(batch)
        if batch.lower_BTH is None:
            return run_body(body, self.embed(batch), batch)
        with only_layers(body, batch.lower_depth, len(body.layers), final_norm=True):
            return run_body(body, batch.lower_BTH, batch)

    @torch.no_grad()
    def lower(self, batch: Batch, depth: int) -> torch.Tensor:
        """(B, T, H) hidden states after the lowest `depth` layers, without gradient."""
        body = self.causal.base_model
        with only_layers(body, 0, depth, final_norm=False):
            return run_body(body, self.embed(batch), batch)

    def _last(self, hidden_BTH: torch.Tensor, batch: Batch) -> torch.Tensor:
        return hidden_BTH[batch.rows_of_examples(), batch.answer_start_B]

    def _scores(self, last_BH: torch.Tensor) -> torch.Tensor:
        dtype = torch.promote_types(last_BH.dtype, torch.float32)
        logits_B2 = self._capped(F.linear(last_BH.to(dtype), self.answer_rows_2H.to(dtype)))
        logit_B = logits_B2[:, 0]
        if self.options.score == "yes_minus_no":
            logit_B = logit_B - logits_B2[:, 1]
        return self.options.scale * (logit_B - self.options.offset)

    def _answer_nll(self, hidden_BTH: torch.Tensor, batch: Batch) -> torch.Tensor:
        wanted_NH = hidden_BTH[batch.predicting()]
        target_N = batch.targets_BL[batch.targets_BL != IGNORED]
        total = wanted_NH.new_zeros((), dtype=torch.float32)
        for part_NH, part_N in zip(wanted_NH.split(CE_CHUNK), target_N.split(CE_CHUNK), strict=True):
            total = total + F.cross_entropy(self._logits(part_NH), part_N, reduction="sum")
        return total

    def _logits(self, hidden_NH: torch.Tensor) -> torch.Tensor:
        # Contiguous rows: a strided bf16 slice makes this product a hundred times slower on CPUs.
        head = self.causal.get_output_embeddings()
        return self._capped(head(hidden_NH.contiguous().to(head.weight.dtype)).float())

    def _capped(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.tanh(logits / self._softcap) * self._softcap if self._softcap else logits


def embedding_rms(causal: Any) -> float:
    """Root mean square of the LM's token embeddings, the scale at which soft tokens start.

    Raises:
        ModelError: the embeddings are not finite.
    """
    rms = float(causal.get_input_embeddings().weight.detach().float().pow(2).mean().sqrt())
    if not rms > 0 or rms == float("inf"):
        raise ModelError(f"token embeddings have root mean square {rms}", "finite weights", "check the model folder")
    return rms
