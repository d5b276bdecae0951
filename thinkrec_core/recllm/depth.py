"""Less than the whole of the LM's body: its layers below or above a layer, and its last MLP only where somebody looks.

What lies below frozen layers can be computed once and kept. Behind the last attention every position goes on by itself, so that the
last MLP has to run only at positions whose last hidden state is read: a few of a prompt, and none of a beginning whose keys and
values are all that is wanted.

Shape suffixes: see `model`; R read positions of a row, N in all rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from thinkrec_core.recllm.attention import NAME as KEPT_WEIGHTS
from thinkrec_core.recllm.examples import Batch
from thinkrec_core.recllm.tree_attention import attending


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


Narrow = Callable[[torch.Tensor], torch.Tensor]
"""(B, T, .) reduced to (B, R, .)."""


@contextlib.contextmanager
def last_mlp_only_at(
    body: Any, read_BT: torch.Tensor, told: Callable[[Narrow | None], None] | None = None
) -> Iterator[None]:
    """The last layer's MLP, for the time of the context, at the positions `read_BT` alone; states elsewhere come out without it.

    The MLP still sees one row per row of the batch, since gates and adapters in it may differ by row. A body without a dense MLP of
    that name, and one that computes its layers again in the backward pass, when the context is over, run as always.

    Args:
        told: called before the MLP with what reduces any tensor as its input is, and behind it with None.
    """
    last = body.layers[-1] if can_split(body) else None
    again = last is not None and last.training and getattr(last, "gradient_checkpointing", False)
    if last is None or again or not hasattr(getattr(last, "mlp", None), "down_proj"):
        yield
        return
    row_N, position_N = read_BT.nonzero(as_tuple=True)
    place_N = (read_BT.cumsum(1) - 1)[row_N, position_N]
    width = int(read_BT.sum(1).max())

    def narrowed(whole_BTH: torch.Tensor) -> torch.Tensor:
        few_BRH = whole_BTH.new_zeros(len(whole_BTH), width, whole_BTH.shape[-1])
        return few_BRH.index_put((row_N, place_N), whole_BTH[row_N, position_N])

    def before(_: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if told is not None:
            told(narrowed)
        return narrowed(given[0]), *given[1:]

    def behind(_: nn.Module, __: tuple[torch.Tensor, ...], made_BRH: torch.Tensor) -> torch.Tensor:
        if told is not None:
            told(None)
        whole_BTH = made_BRH.new_zeros(*read_BT.shape, made_BRH.shape[-1])
        return whole_BTH.index_put((row_N, position_N), made_BRH[row_N, place_N])

    hooks = last.mlp.register_forward_pre_hook(before), last.mlp.register_forward_hook(behind)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        if told is not None:
            told(None)


def takes_trees(body: Any) -> bool:
    """Whether all layers of the body attend alike, by softmax(QK + mask)V, and know positions by their ids alone."""
    config = body.config
    plain = not any(getattr(config, name, None) for name in ("sliding_window", "attn_logit_softcapping"))
    return can_split(body) and plain and getattr(config, "_attn_implementation", None) in ("sdpa", KEPT_WEIGHTS)


def run_body(body: Any, hidden_BTH: torch.Tensor, batch: Batch) -> torch.Tensor:
    """(B, T, H) what `body`, whole or reduced, makes of `hidden_BTH`, where `batch` says who sees whom."""
    if batch.forest is None:
        out = body(inputs_embeds=hidden_BTH, attention_mask=batch.attention_mask_BT, use_cache=False)
    else:
        with attending(body, batch.forest.attend(hidden_BTH.dtype, hidden_BTH.device)):
            out = body(inputs_embeds=hidden_BTH, position_ids=batch.position_BT, use_cache=False)
    last_BTH: torch.Tensor = out.last_hidden_state
    return last_BTH
