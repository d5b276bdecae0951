"""Attention over trees is attention of every path from root to leaf, called node by node or all at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.tiny_model import tiny_causal
from thinkrec_core.recllm import tree_attention
from thinkrec_core.recllm.tree_attention import AllAtOnce, Attend, Forest, OneByOne, attending, attention, looks_of

HEADS, KEY_HEADS, SIZE = 4, 2, 8
Shape = tuple[list[int], list[int]]
"""Lengths and parents of a tree, in preorder."""
DEEP: Shape = ([5, 30, 7, 9, 4, 11, 60, 3, 2], [-1, 0, 1, 1, 0, 4, 4, 6, 6])
TWO_ROOTS: Shape = ([6, 4, 3, 9], [-1, 0, 0, -1])
ALONE: Shape = ([13], [-1])


def drawn(tokens: int) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(1, heads, tokens, SIZE, generator=draw, dtype=torch.float64)
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    )


def by_path(shapes: list[Shape], scaling: float | None) -> torch.Tensor:
    """(1, T, H, D): of each node the last tokens of plain causal attention over the path that ends with it."""
    query, key, value = drawn(sum(sum(lengths) for lengths, _ in shapes))
    groups, out, base = HEADS // KEY_HEADS, [], 0
    for lengths, parents in shapes:
        start = base + np.cumsum([0, *lengths])
        base = int(start[-1])
        for node, own in enumerate(lengths):
            path, number = [], node
            while number >= 0:
                path.append(torch.arange(int(start[number]), int(start[number + 1])))
                number = parents[number]
            index = torch.cat(path[::-1])
            parts = query[:, :, index], *(of[:, :, index].repeat_interleave(groups, dim=1) for of in (key, value))
            whole = F.scaled_dot_product_attention(*parts, is_causal=True, scale=scaling)
            out.append(whole[:, :, -own:].transpose(1, 2))
    return torch.cat(out, dim=1)


def forest_of(shapes: list[Shape]) -> Forest:
    return Forest([looks_of(*shape) for shape in shapes], [sum(lengths) for lengths, _ in shapes])


def both_ways(forest: Forest) -> list[Attend]:
    """Node by node, and what other devices do, here on the CPU."""
    one = forest.attend(torch.float64, torch.device("cpu"))
    assert isinstance(one, OneByOne)
    looks = [look for look, _, _ in one._calls]
    return [one, AllAtOnce(looks, torch.float64, torch.device("cpu"))]


@pytest.mark.parametrize("at_once", [1, 16, 10**6])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_every_node_attends_as_its_path_does(
    at_once: int, scaling: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_attention, "MOST_AT_ONCE", at_once)
    shapes = [DEEP, ALONE, TWO_ROOTS]
    expected = by_path(shapes, scaling)
    forest = forest_of(shapes)
    calls = sum(map(len, forest.looks))
    assert calls == {1: 14, 16: 10, 10**6: 3}[at_once]
    for attend in both_ways(forest):
        found = attend(*drawn(sum(forest.tokens)), scaling)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_some_trees_attend_as_they_do_among_others() -> None:
    shapes = [DEEP, ALONE, TWO_ROOTS, ALONE]
    forest = forest_of(shapes)
    chosen = torch.tensor([False, True, True, False])
    expected = forest_of([ALONE, TWO_ROOTS])
    few = forest.only(chosen)
    assert few.tokens == expected.tokens
    assert few.tree_of_token().tolist() == [0] * 13 + [1] * 22
    for attend in both_ways(few):
        torch.testing.assert_close(attend(*drawn(35), None), by_path([ALONE, TWO_ROOTS], None), atol=1e-12, rtol=0)


@st.composite
def shapes_of(draw: Any) -> Shape:
    lengths = draw(st.lists(st.integers(1, 20), min_size=1, max_size=12))
    parents = [-1]
    for node in range(1, len(lengths)):
        # The last node and all above it are where preorder can go on.
        path = [node - 1]
        while path[-1] >= 0:
            path.append(parents[path[-1]])
        parents.append(draw(st.sampled_from(path)))
    return lengths, parents


@settings(max_examples=60, deadline=None)
@given(st.lists(shapes_of(), min_size=1, max_size=3), st.integers(1, 60))
def test_any_trees(shapes: list[Shape], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tree_attention, "MOST_AT_ONCE", at_once)
        forest = forest_of(shapes)
    asked = sorted(token for looks in forest.looks[:1] for look in looks for token in range(look.start, look.stop))
    assert asked == list(range(forest.tokens[0]))
    expected = by_path(shapes, None)
    for attend in both_ways(forest):
        torch.testing.assert_close(attend(*drawn(sum(forest.tokens)), None), expected, atol=1e-12, rtol=0)


def test_the_model_attends_as_before_afterwards_and_after_an_error() -> None:
    body = tiny_causal().model
    attend = forest_of([ALONE]).attend(torch.float32, torch.device("cpu"))
    with attending(body, attend):
        assert body.config._attn_implementation == tree_attention.NAME
    assert body.config._attn_implementation == "sdpa"
    with pytest.raises(ValueError, match="input_ids or inputs_embeds"), attending(body, attend):
        body()
    assert body.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("special", [{"s_aux": torch.ones(4)}, {"softcap": 30.0}])
def test_attention_that_is_more_than_a_mask_is_refused(special: dict[str, Any]) -> None:
    query, key, value = drawn(13)
    attend = forest_of([ALONE]).attend(torch.float64, torch.device("cpu"))
    with attending(tiny_causal().model, attend):
        attention(torch.nn.Identity(), query, key, value, None)
        with pytest.raises(NotImplementedError, match=next(iter(special))):
            attention(torch.nn.Identity(), query, key, value, None, **special)
        with pytest.raises(NotImplementedError, match="a mask"):
            attention(torch.nn.Identity(), query, key, value, torch.ones(1, 1, 13, 13))
