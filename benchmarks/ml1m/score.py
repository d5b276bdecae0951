"""Test scores of a trained run, kept as they finish."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.ml1m.study import Budget, Run, configuration
from benchmarks.ml1m.train import experts_of, output
from storage.language_model import load_stacked, load_tokenizer
from storage.rec_data import load_gates
from tasks.worker.build import Examples
from thinkrec_core.experts.shared_depth import score_gated

Scores = npt.NDArray[np.float64]
CHUNK = 512
"""Rows between two savings."""


def test_scores(
    run: Run, budget: Budget, inputs: Path, model: Path, state: Path, dtype: torch.dtype, deadline: float
) -> Scores | None:
    """(R,) LLM scores of the test rows without prior, or None when `deadline` came first.

    Args:
        dtype: of the body; the answer's logit is computed in fp32 from the last hidden state on.
    """
    settings, folders = configuration(run, budget), inputs / run.protocol
    tokenizer = load_tokenizer(model)
    examples = Examples(settings, folders / "data", folders / "encoder", tokenizer)
    test = examples.samples("test")
    path = state / run.name / f"test-{str(dtype).removeprefix('torch.')}.npy"
    scores = np.load(path, allow_pickle=False) if path.is_file() else np.full(len(test), np.nan)
    todo = np.flatnonzero(np.isnan(scores))
    if not len(todo):
        return scores
    experts = list(experts_of(run))
    general = run.general if experts else run
    lm, gates = load_stacked(model, output(state, general), [output(state, run, f"expert_{n}") for n in experts])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lm.to(device)
    for parameter in lm.causal.parameters():
        parameter.data = parameter.data.to(dtype)
    by_user = load_gates(folders / "clusters", settings.experts.router, experts)
    row_gates = by_user[test.user_idx] if experts else np.ones((len(test), 1))
    factory = examples.factory(test, lm.answers, with_prior=False)
    for start in range(0, len(todo), CHUNK):
        if time.monotonic() > deadline:
            return None
        rows = todo[start : start + CHUNK]
        made = [factory.make(int(row), settings.training.scored_prompt) for row in rows]
        batch = 128 if device.type == "cuda" else 16
        scores[rows] = score_gated(lm, gates, made, [row_gates[rows]], tokenizer.pad_id, batch)[0]
        partial = path.with_suffix(".partial.npy")
        np.save(partial, scores)
        partial.replace(path)
    return scores
