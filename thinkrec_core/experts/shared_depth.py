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
from thinkrec_core.recllm.packs import batches_of, collate_packs, packs_of
from thinkrec_core.recllm.scoring import all_finite, evaluating

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
    """(V, B) scores of `batch` under V gate settings, one row of weights (N,) for each row of the batch.

    Args:
        settings: gate weights; where a row of the batch holds several prompts, it has the gates of them all. Below
            `shared_layers` the first setting's are used for all.
        shared_layers: how many lower layers all settings share; 0 runs each setting in full.
        cross_terms: [compat] merge as published; nothing below can be shared then.
    """
    body = model.causal.base_model
    shared = shared_layers if can_split(body) and not cross_terms else 0
    lower_BTH = model.embed(batch)
    if shared:
        gates.set(settings[0])
        with only_layers(body, 0, shared, final_norm=False):
            lower_BTH = run_body(body, lower_BTH, batch.attention(lower_BTH.dtype), batch.position_BT)
    scores_VB = torch.empty(len(settings), len(batch.answer_start_B))
    owner_B = batch.rows_of_examples().cpu()
    for number, weights_BN in enumerate(settings):
        gates.set(weights_BN, cross_terms)
        rows = torch.ones(len(weights_BN), dtype=torch.bool, device=weights_BN.device)
        for earlier, known_BN in enumerate(settings[:number]):
            same = rows & (weights_BN == known_BN).all(dim=1)
            scores_VB[number, same.cpu()[owner_B]] = scores_VB[earlier, same.cpu()[owner_B]]
            rows &= ~same
        if not rows.any():
            continue
        part_BTH, part = lower_BTH[rows.to(lower_BTH.device)], _rows(batch, rows.to(lower_BTH.device))
        gates.set(weights_BN[rows], cross_terms)
        upper = only_layers(body, shared, len(body.layers), final_norm=True) if shared else contextlib.nullcontext()
        with upper, last_mlp_only_at(body, part.read(with_answers=False)):
            hidden_BTH = run_body(body, part_BTH, part.attention(part_BTH.dtype), part.position_BT)
        scores_VB[number, rows.cpu()[owner_B]] = model.score_hidden(hidden_BTH, part).float().cpu()
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

    Prompts of one user that begin alike and have equal gates share that beginning (`packs`), settings share their lower layers,
    and batches hold sequences of like length.

    Args:
        batch_size: prompts in a batch; sequences of several prompts make batches of about as many tokens.
        shared_layers: see `score_settings`.
        cross_terms: likewise.
        progress: called with the number of examples done.

    Raises:
        ValueError: a score is not finite.
    """
    scores, done = np.empty((len(settings), len(examples))), 0
    kinds = [tuple(setting[row].tobytes() for setting in settings) for row in range(len(examples))]
    lengths = [len(example.prompt.ids) for example in examples]
    with evaluating(model):
        device = model.answer_rows_2H.device
        for packs in batches_of(packs_of(model, examples, kinds), lengths, batch_size):
            batch = collate_packs(examples, packs, pad_id, model.projector.n_tokens).to(device)
            first = [int(pack.rows[0]) for pack in packs]
            rows = np.concatenate([pack.rows for pack in packs])
            weights = [torch.tensor(setting[first], dtype=torch.float32) for setting in settings]
            scores[:, rows] = score_settings(model, gates, batch, weights, shared_layers, cross_terms).numpy()
            done += len(rows)
            if progress is not None:
                progress(done)
    return all_finite(scores)


def _rows(batch: Batch, rows: torch.Tensor) -> Batch:
    """What is left to know of some rows once their soft tokens are in place."""
    examples = rows if batch.answer_row_B is None else rows[batch.answer_row_B]
    renumbered = rows.cumsum(0) - 1
    return replace(
        batch,
        attention_mask_BT=batch.attention_mask_BT[rows],
        answer_start_B=batch.answer_start_B[examples],
        prior_B=batch.prior_B[examples],
        segment_BT=None if batch.segment_BT is None else batch.segment_BT[rows],
        position_BT=None if batch.position_BT is None else batch.position_BT[rows],
        answer_row_B=None if batch.answer_row_B is None else renumbered[batch.answer_row_B[examples]],
    )
