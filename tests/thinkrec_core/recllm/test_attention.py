"""Attention with kept weights: the gradients of torch's, in bf16 on a CPU; torch's own everywhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity, scaled_dot_product_attention

from tests.tiny_recllm import tiny_recllm
from thinkrec_core.recllm import attention
from thinkrec_core.recllm.attention import NAME, KeptAttention, keep_attention_weights
from thinkrec_core.recllm.examples import collate

ROWS, HEADS, GROUPS, LENGTH, SIZE = 3, 4, 2, 11, 8


def parts(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(3)
    heads = (HEADS, HEADS // GROUPS, HEADS // GROUPS)
    made = (torch.randn(ROWS, count, LENGTH, SIZE, generator=draw) for count in heads)
    return tuple(part.to(dtype).requires_grad_() for part in made)


def masks() -> dict[str, torch.Tensor | None]:
    """None (each sees what came before it), and padding on the right and on the left."""
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    seen = torch.ones(ROWS, 1, 1, LENGTH, dtype=torch.bool)
    right, left = seen.clone(), seen.clone()
    right[1, ..., 7:] = left[2, ..., :4] = False
    return {"causal": None, "right": causal & right, "left": causal & left}


class Layer(torch.nn.Module):
    is_causal, num_key_value_groups = True, GROUPS


def test_its_gradient_is_that_of_its_formula() -> None:
    query, key, value = (part.flatten(0, 1)[:4].double().detach().requires_grad_() for part in parts(torch.float64))
    mask = torch.zeros(2, 1, LENGTH, LENGTH, dtype=torch.float64)
    mask[1, ..., 5:] = -1e30
    assert torch.autograd.gradcheck(KeptAttention.apply, (query, key, value, mask))


@pytest.mark.parametrize("padding", ["causal", "right", "left"])
def test_values_and_gradients_are_torchs_up_to_the_rounding_of_bf16(padding: str) -> None:
    mask = masks()[padding]
    inputs, exact = parts(torch.bfloat16), parts(torch.float32)
    seen = torch.ones(ROWS, LENGTH, dtype=torch.bool) if mask is None else mask.any(-1)[:, 0]
    wanted = scaled_dot_product_attention(
        *exact, attn_mask=mask, is_causal=mask is None, scale=0.4, enable_gqa=True
    ).transpose(1, 2)[seen]
    found = attention.attention(Layer(), *inputs, mask, scaling=0.4)[0]
    assert found.isfinite().all()
    found = found[seen]
    assert (found - wanted).abs().max() < 0.03
    weight = torch.linspace(-1, 1, found.numel()).view(found.shape)
    ours = torch.autograd.grad((found.float() * weight).sum(), inputs)
    theirs = torch.autograd.grad((wanted * weight).sum(), exact)
    for one, other in zip(ours, theirs, strict=True):
        assert cosine_similarity(one.float().flatten(), other.flatten(), dim=0) > 0.9995


@pytest.mark.parametrize(
    ("case", "kept"),
    [("bf16", True), ("fp32", False), ("no_grad", False), ("frozen", False), ("cached", False), ("dropout", False)],
)
def test_only_what_gains_by_it_takes_it(case: str, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []

    def spy(*tensors: torch.Tensor) -> Any:
        taken.append(True)
        return torch.zeros(ROWS * HEADS, LENGTH, SIZE)

    monkeypatch.setattr(attention.KeptAttention, "apply", spy)
    query, key, value = parts(torch.float32 if case == "fp32" else torch.bfloat16)
    if case == "frozen":
        query, key, value = query.detach(), key.detach(), value.detach()
    if case == "cached":
        query = query[:, :, -2:]
    with torch.set_grad_enabled(case != "no_grad"):
        attention.attention(Layer(), query, key, value, None, dropout=0.1 if case == "dropout" else 0.0)
    assert bool(taken) == kept


def test_a_recommender_in_bf16_learns_the_same_way() -> None:
    tiny = tiny_recllm()
    tiny.model.to(torch.bfloat16)
    factory = tiny.factory()
    batch = collate([factory.make(row, "id") for row in (17, 0, 42, 5)], tiny.pieces.pad_id, 1)
    gradients = []
    for kept in (False, True):
        if kept:
            keep_attention_weights(tiny.model.causal)
            assert tiny.model.causal.config._attn_implementation == NAME
        tiny.model.zero_grad()
        sums = tiny.model(batch)
        (sums.bce + sums.ce).backward()
        found = [one.grad.float().flatten() for one in tiny.model.parameters() if one.grad is not None]
        gradients.append(torch.cat(found))
    assert gradients[0].norm() > 0
    assert cosine_similarity(gradients[0], gradients[1], dim=0) > 0.995
