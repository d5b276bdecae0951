"""Several gate settings on one batch for little more than one forward: what they have in common is computed once.

Experts differ from the general adapter only in the last layers, so the hidden states below them are the same for every gate
setting whose weights sum to one. A batch runs through the lower layers once, then through the upper layers once per setting,
and there only with the rows whose weights no earlier setting had.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import torch

from thinkrec_core.experts.stacked import Gates
from thinkrec_core.recllm.depth import can_split, only_layers, run_body
from thinkrec_core.recllm.examples import Batch
from thinkrec_core.recllm.model import RecLLM


@torch.no_grad()
def score_settings(
    model: RecLLM,
    gates: Gates,
    batch: Batch,
    settings: Sequence[torch.Tensor],
    shared_layers: int,
    cross_terms: bool = False,
) -> torch.Tensor:
    """(V, B) scores of `batch` under V gate settings (B, N) each.

    Args:
        settings: gate weights; below `shared_layers` the first setting's are used for all.
        shared_layers: how many lower layers all settings share; 0 runs each setting in full.
        cross_terms: [compat] merge as published; nothing below can be shared then.
    """
    body = model.causal.base_model
    shared = shared_layers if can_split(body) and not cross_terms else 0
    lower_BTH = model.embed(batch)
    if shared:
        gates.set(settings[0])
        with only_layers(body, 0, shared, final_norm=False):
            lower_BTH = run_body(body, lower_BTH, batch.attention_mask_BT)
    scores_VB = torch.empty(len(settings), len(lower_BTH))
    for number, weights_BN in enumerate(settings):
        gates.set(weights_BN, cross_terms)
        rows = torch.ones(len(weights_BN), dtype=torch.bool, device=weights_BN.device)
        for earlier, known_BN in enumerate(settings[:number]):
            same = (rows & (weights_BN == known_BN).all(dim=1)).cpu()
            scores_VB[number, same] = scores_VB[earlier, same]
            rows &= ~same.to(rows.device)
        if not rows.any():
            continue
        part_BTH, part = lower_BTH[rows.to(lower_BTH.device)], _rows(batch, rows.to(lower_BTH.device))
        gates.set(weights_BN[rows], cross_terms)
        with only_layers(body, shared, len(body.layers), final_norm=True) if shared else contextlib.nullcontext():
            scores_VB[number, rows.cpu()] = (
                model.score_hidden(run_body(body, part_BTH, part.attention_mask_BT), part).float().cpu()
            )
    return scores_VB


def _rows(batch: Batch, rows: torch.Tensor) -> Batch:
    """What is left to know of some rows once their soft tokens are in place."""
    return replace(
        batch,
        attention_mask_BT=batch.attention_mask_BT[rows],
        answer_start_B=batch.answer_start_B[rows],
        prior_B=batch.prior_B[rows],
    )
