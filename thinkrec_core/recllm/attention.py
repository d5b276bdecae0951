"""Attention whose backward pass is fast in bf16 on a CPU.

torch's fused attention saves memory by computing its weights again in the backward pass, and on a CPU that pass is slower in bf16
than in fp32, where matrix products are faster. Prompts are a few hundred tokens, so here the weights are kept and the backward
pass is four batched products. benchmarks/training.py measures it; every other case is left to torch.

Shape suffixes: R rows, H heads, B rows times heads, Q queries, K keys, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "sdpa_with_kept_weights"
"""Of the implementation, in transformers' registry."""
SPECIAL = ("softcap", "position_bias", "cache", "s_aux")
"""Arguments of attention that is more than softmax(QK)V under a mask."""


def keep_attention_weights(causal: Any) -> None:
    """Let the layers of `causal`, where they use torch's fused attention, use this module's.

    Scores are as before; gradients differ by the rounding of bf16, and in bf16 on CPUs alone.
    """
    if causal.config._attn_implementation == "sdpa":
        causal.set_attn_implementation(NAME)


class KeptAttention(torch.autograd.Function):
    """softmax(QK' + mask) V with the softmax kept for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, query_BQD: torch.Tensor, key_BKD: torch.Tensor, value_BKD: torch.Tensor, mask_RHQK: torch.Tensor
    ) -> torch.Tensor:
        """(B, Q, D) the mean of the values under the attention weights.

        Args:
            query_BQD: scaled.
            mask_RHQK: (rows or 1, heads or 1, Q, K), added to the scores.
        """
        rows = mask_RHQK.shape[0]
        scores_BQK = torch.bmm(query_BQD, key_BKD.mT)
        scores_BQK.view(rows, len(scores_BQK) // rows, *scores_BQK.shape[1:]).add_(mask_RHQK)
        weights_BQK = scores_BQK.softmax(-1)
        ctx.save_for_backward(query_BQD, key_BKD, value_BKD, weights_BQK)
        return torch.bmm(weights_BQK, value_BKD)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of query, key and value."""
        query_BQD, key_BKD, value_BKD, weights_BQK = ctx.saved_tensors
        (out_BQD,) = gradients
        by_weight_BQK = torch.bmm(out_BQD, value_BKD.mT)
        by_score_BQK = torch._softmax_backward_data(by_weight_BQK, weights_BQK, -1, weights_BQK.dtype)
        by_key_BKD = torch.bmm(by_score_BQK.mT, query_BQD)
        return torch.bmm(by_score_BQK, key_BKD), by_key_BKD, torch.bmm(weights_BQK.mT, out_BQD), None


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' `sdpa_attention_forward`, which it calls wherever nothing is to be gained.

    Args:
        query: (rows, heads, Q, D).
        key: (rows, heads or a divisor of them, K, D), as `value`.
        attention_mask: (rows or 1, heads or 1, Q, K), true where a query sees a key, or None: each sees itself and what
            came before it.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    plain = not dropout and causal and all(others.get(name) is None for name in SPECIAL)
    slow = query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled()
    square = query.shape[2] == key.shape[2]  # no cache, whose keys come before the queries
    if not (plain and slow and square and any(part.requires_grad for part in (query, key, value))):
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
        return whole
    rows, heads, length, size = query.shape
    groups = heads // key.shape[1]
    parts = query * (size**-0.5 if scaling is None else scaling), repeat_kv(key, groups), repeat_kv(value, groups)
    mask_RHQK = _additive(attention_mask, length, query)
    out_BQD = KeptAttention.apply(*(part.flatten(0, 1) for part in parts), mask_RHQK)
    return out_BQD.view(rows, heads, length, size).transpose(1, 2).contiguous(), None


def _additive(mask: torch.Tensor | None, length: int, like: torch.Tensor) -> torch.Tensor:
    """(rows or 1, heads or 1, Q, K), 0 where a query sees a key; elsewhere the lowest number: no row becomes NaN."""
    if mask is None:
        mask = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return additive(mask, like.dtype)


def additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where a query sees a key, elsewhere the lowest number."""
    return torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
