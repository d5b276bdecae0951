"""Less than the whole of the LM's body: its layers below or above a layer, and its last MLP only where somebody looks.

What lies below frozen layers can be computed once and kept. Behind the last attention every position goes on by itself, so that the
last MLP has to run only at positions whose last hidden state is read: a few of a prompt, and none of a beginning whose keys and
values are all that is wanted.

Shape suffixes: see `model`; R read positions of a row, N in all rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def can_split(body: Any) -> bool:
    """Whether the body is a plain stack: `layers` and `norm`, all layers of one type, nothing done to given embeddings."""
    types = getattr(body.config, "layer_types", None)
    uniform = types is None or len(set(types)) == 1
    return uniform and hasattr(body, "layers") and hasattr(body, "norm") and "gemma" not in body.config.model_type


@contextlib.contextmanager
def only_layers(body: Any, start: int, stop: int, final_norm: bool) -> Iterator[None]:
    """`body` reduced to its layers start..stop for the time of the context."""
    layers, norm, count = body.layers, body.norm, body.config.num_hidden_layers
    body.layers = nn.ModuleList(list(layers)[start:stop])
    body.config.num_hidden_layers = stop - start
    if not final_norm:
        body.norm = nn.Identity()
    try:
        yield
    finally:
        body.layers, body.norm, body.config.num_hidden_layers = layers, norm, count


@contextlib.contextmanager
def last_mlp_only_at(body: Any, read_BT: torch.Tensor) -> Iterator[None]:
    """The last layer's MLP, for the time of the context, at the positions `read_BT` alone; states elsewhere come out without it.

    The MLP still sees one row per row of the batch, since gates and adapters in it may differ by row. A body without a dense MLP of
    that name, and one that computes its layers again in the backward pass, when the context is over, run as always.
    """
    last = body.layers[-1] if can_split(body) else None
    again = last is not None and last.training and getattr(last, "gradient_checkpointing", False)
    if last is None or again or not hasattr(getattr(last, "mlp", None), "down_proj"):
        yield
        return
    row_N, position_N = read_BT.nonzero(as_tuple=True)
    place_N = (read_BT.cumsum(1) - 1)[row_N, position_N]
    width = int(read_BT.sum(1).max())

    def narrow(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        rows, size = given[0].shape[0], given[0].shape[-1]
        few_BRH = given[0].new_zeros(rows, width, size)
        return few_BRH.index_put((row_N, place_N), given[0][row_N, position_N]), *given[1:]

    def widen(_: nn.Module, __: tuple[torch.Tensor, ...], made_BRH: torch.Tensor) -> torch.Tensor:
        whole_BTH = made_BRH.new_zeros(*read_BT.shape, made_BRH.shape[-1])
        return whole_BTH.index_put((row_N, position_N), made_BRH[row_N, place_N])

    hooks = last.mlp.register_forward_pre_hook(narrow), last.mlp.register_forward_hook(widen)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def takes_masks(body: Any) -> bool:
    """Whether every layer of the body attends as a (B, 1, T, T) mask says and knows positions by their ids alone."""
    attends = getattr(body.config, "_attn_implementation", None) in ("sdpa", "eager")
    return can_split(body) and attends and not getattr(body.config, "sliding_window", None)


def run_body(
    body: Any, hidden_BTH: torch.Tensor, mask: torch.Tensor, position_BT: torch.Tensor | None = None
) -> torch.Tensor:
    """(B, T, H) what `body`, whole or reduced, makes of `hidden_BTH`.

    Args:
        mask: (B, T) of real tokens, or (B, 1, T, T) added to the logits of attention.
        position_BT: of the tokens; None counts from 0.
    """
    positions = {} if position_BT is None else {"position_ids": position_BT}
    out = body(inputs_embeds=hidden_BTH, attention_mask=mask, use_cache=False, **positions)
    last_BTH: torch.Tensor = out.last_hidden_state
    return last_BTH
