"""The LM's body in two parts, below and above a layer: what lies below frozen layers can be computed once and kept.

Shape suffixes: see `model`.
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
