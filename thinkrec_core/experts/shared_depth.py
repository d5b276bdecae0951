"""Several gate settings on one batch for little more than one forward: what they have in common is computed once.

Experts differ from the general adapter only in the last layers, so the hidden states below them are the same for every gate
setting whose weights sum to one. A batch runs through the lower layers once, then through the upper layers once per setting,
and there only with the rows whose weights no earlier setting had.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from thinkrec_core.experts.stacked import Gates
from thinkrec_core.recllm.depth import can_split, last_mlp_only_at, only_layers, run_body
from thinkrec_core.recllm.examples import Batch, Example
from thinkrec_core.recllm.model import RecLLM
from thinkrec_core.recllm.scoring import all_finite, evaluating
from thinkrec_core.recllm.sharing import shared_batches

Scores = npt.NDArray[np.float64]


@torch.no_grad()
def score_settings(
    model: RecLLM,
    gates: Gates,
    batch: Batch,
    settings: Sequence[torch.Tensor],
    shared_layers: int,
    cross_terms: bool = False,
) -> torch.Tensor:
    """(V, B) scores of `batch` under V gate settings, one row of weights (N,) for each row of the batch, or each of its trees.

    Args:
        settings: gate weights. Below `shared_layers` the first setting's are used for all.
        shared_layers: how many lower layers all settings share; 0 runs each setting in full.
        cross_terms: [compat] merge as published; nothing below can be shared then.
    """
    body = model.causal.base_model
    shared = shared_layers if can_split(body) and not cross_terms else 0
    lower_BTH = model.embed(batch)
    if shared:
        _set(gates, settings[0], batch, cross_terms)
        with only_layers(body, 0, shared, final_norm=False):
            lower_BTH = run_body(body, lower_BTH, batch)
    scores_VB = torch.empty(len(settings), len(batch.answer_start_B))
    owner_B = (batch.rows_of_examples() if batch.tree_B is None else batch.tree_B).cpu()
    for number, weights_GN in enumerate(settings):
        gates.check(weights_GN)
        rows_G = torch.ones(len(weights_GN), dtype=torch.bool)
        for earlier, known_GN in enumerate(settings[:number]):
            same_G = rows_G & (weights_GN == known_GN).all(dim=1).cpu()
            scores_VB[number, same_G[owner_B]] = scores_VB[earlier, same_G[owner_B]]
            rows_G &= ~same_G
        if not rows_G.any():
            continue
        part_BTH, part = (lower_BTH, batch) if rows_G.all() else _only(lower_BTH, batch, rows_G)
        _set(gates, weights_GN[rows_G], part, cross_terms)
        upper = only_layers(body, shared, len(body.layers), final_norm=True) if shared else contextlib.nullcontext()
        with upper, last_mlp_only_at(body, part.read(with_answers=False), gates.see_through):
            hidden_BTH = run_body(body, part_BTH, part)
        scores_VB[number, rows_G[owner_B]] = model.score_hidden(hidden_BTH, part).float().cpu()
    return scores_VB


@torch.no_grad()
def score_gated(
    model: RecLLM,
    gates: Gates,
    examples: Sequence[Example],
    settings: Sequence[Scores],
    pad_id: int,
    batch_size: int,
    shared_layers: int = 0,
    cross_terms: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """(V, R) scores of `examples` under V gate settings (R, N) each.

    Prompts of one user with equal gates share what they have in common (`sharing`), and settings share their lower layers.

    Args:
        pad_id: see `sharing.shared_batches`, as batch_size.
        shared_layers: see `score_settings`.
        cross_terms: likewise.
        progress: called with the number of examples done.

    Raises:
        ValueError: a score is not finite.
    """
    scores, done = np.empty((len(settings), len(examples))), 0
    kinds = [tuple(setting[row].tobytes() for setting in settings) for row in range(len(examples))]
    with evaluating(model):
        device = model.answer_rows_2H.device
        for shared in shared_batches(model, examples, pad_id, batch_size, kinds):
            weights = [torch.tensor(setting[shared.first], dtype=torch.float32) for setting in settings]
            found = score_settings(model, gates, shared.batch.to(device), weights, shared_layers, cross_terms)
            scores[:, shared.rows] = found.numpy()
            done += len(shared.rows)
            if progress is not None:
                progress(done)
    return all_finite(scores)


def _set(gates: Gates, weights_GN: torch.Tensor, batch: Batch, cross_terms: bool) -> None:
    """The gates of the rows or trees of `batch`."""
    gates.set(weights_GN if batch.forest is None else weights_GN[batch.forest.tree_of_token()][None], cross_terms)


def _only(lower_BTH: torch.Tensor, batch: Batch, rows_G: torch.Tensor) -> tuple[torch.Tensor, Batch]:
    """Some rows or trees, and what is left to know of them once their soft tokens are in place."""
    if batch.forest is None or batch.tree_B is None or batch.position_BT is None:
        rows = rows_G.to(lower_BTH.device)
        kept = {name: getattr(batch, name)[rows] for name in ("attention_mask_BT", "answer_start_B", "prior_B")}
        return lower_BTH[rows], replace(batch, **kept)
    tokens_T = rows_G[batch.forest.tree_of_token()].to(lower_BTH.device)
    examples = rows_G.to(batch.tree_B.device)[batch.tree_B]
    moved_T = tokens_T.cumsum(0) - 1
    return lower_BTH[:, tokens_T], replace(
        batch,
        attention_mask_BT=batch.attention_mask_BT[:, tokens_T],
        answer_start_B=moved_T[batch.answer_start_B[examples]],
        prior_B=batch.prior_B[examples],
        forest=batch.forest.only(rows_G),
        position_BT=batch.position_BT[:, tokens_T],
    )
