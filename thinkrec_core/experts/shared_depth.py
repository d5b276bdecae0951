"""Several gate settings on one batch for little more than one forward: the layers below the experts are computed once.

Experts differ from the general adapter only in the last layers, so the hidden states below them are the same for every gate
setting whose weights sum to one. A batch runs through the lower layers once, then through the upper layers once per setting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from thinkrec_core.experts.stacked import Gates
from thinkrec_core.recllm.examples import Batch
from thinkrec_core.recllm.model import RecLLM


@torch.no_grad()
def score_settings(
    model: RecLLM, gates: Gates, batch: Batch, settings: Sequence[torch.Tensor], shared_layers: int
) -> torch.Tensor:
    """(V, B) scores of `batch` under V gate settings (B, N) each.

    Args:
        settings: gate weights; below `shared_layers` the first setting's are used for all.
        shared_layers: how many lower layers all settings share; 0 runs each setting in full.
    """
    body = model.causal.base_model
    if not shared_layers or len(settings) == 1 or not _can_split(body):
        scores = []
        for weights_BN in settings:
            gates.set(weights_BN)
            scores.append(model.score(batch))
        return torch.stack(scores)
    gates.set(settings[0])
    with _layers(body, 0, shared_layers, final_norm=False):
        lower_BTH = _run(body, model.embed(batch), batch)
    scores = []
    for weights_BN in settings:
        gates.set(weights_BN)
        with _layers(body, shared_layers, len(body.layers), final_norm=True):
            scores.append(model.score_hidden(_run(body, lower_BTH, batch), batch))
    return torch.stack(scores)


def _run(body: Any, embeds_BTH: torch.Tensor, batch: Batch) -> torch.Tensor:
    out = body(inputs_embeds=embeds_BTH, attention_mask=batch.attention_mask_BT, use_cache=False)
    hidden_BTH: torch.Tensor = out.last_hidden_state
    return hidden_BTH


def _can_split(body: Any) -> bool:
    """Whether the body is a plain stack: `layers` and `norm`, all layers of one type, nothing done to given embeddings."""
    types = getattr(body.config, "layer_types", None)
    uniform = types is None or len(set(types)) == 1
    return uniform and hasattr(body, "layers") and hasattr(body, "norm") and "gemma" not in body.config.model_type


@contextlib.contextmanager
def _layers(body: Any, start: int, stop: int, final_norm: bool) -> Iterator[None]:
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
