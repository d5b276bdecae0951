"""Scores of any rows under any gate settings, by the LM with the general adapter and the experts stacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from storage.language_model import load_stacked
from tasks.view import View
from tasks.worker.build import Examples
from thinkrec_core.experts.shared_depth import score_settings
from thinkrec_core.recllm.examples import Example, collate
from thinkrec_core.recllm.prompt import PromptKind
from thinkrec_core.recllm.records import Samples

BATCH = 16
Scores = npt.NDArray[np.float64]


class GateScorer:
    """The stacked model; column 0 of the gates is the general adapter, column n + 1 is `experts[n]`.

    Args:
        base: folder of the base LM.
        general: artifact of the general adapter.
        experts: artifacts of the experts.
        examples: makes the prompts.
        last_layers: layers in which experts differ from the general adapter.
    """

    def __init__(
        self, base: Path, general: Path, experts: Sequence[Path], examples: Examples, last_layers: int, view: View
    ) -> None:
        self.model, self.gates = load_stacked(base, general, list(experts))
        self._examples, self._view = examples, view
        self._shared = max(0, self.model.causal.config.num_hidden_layers - last_layers)

    def make(self, samples: Samples, rows: npt.ArrayLike, prompt: PromptKind) -> list[Example]:
        """Examples of `rows`, without prior."""
        factory = self._examples.factory(samples, self.model.answers, with_prior=False)
        return [factory.make(int(row), prompt) for row in np.asarray(rows)]

    def score(
        self,
        samples: Samples,
        rows: npt.ArrayLike,
        prompt: PromptKind,
        settings: Sequence[Scores],
        *,
        shared: bool = True,
        cross_terms: bool = False,
    ) -> Scores:
        """(V, R) LLM scores of `rows` without prior under V settings (R, A) each; batches are of like length.

        Args:
            shared: all weights of a row sum to one, so that the layers below the experts are the same in every setting.
            cross_terms: [compat] fuse as published.
        """
        made = self.make(samples, rows, prompt)
        out = np.empty((len(settings), len(made)))
        order = np.argsort([len(example.prompt.ids) for example in made], kind="stable")
        pad_id, n_tokens = self._examples.tokenizer.pad_id, self.model.projector.n_tokens
        with self._view.progress(f"scoring {prompt} prompts", len(made)) as advance:
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH]
                batch = collate([made[index] for index in chosen], pad_id, n_tokens, False)
                weights = [torch.tensor(setting[chosen], dtype=torch.float32) for setting in settings]
                depth = self._shared if shared else 0
                out[:, chosen] = score_settings(self.model, self.gates, batch, weights, depth, cross_terms).numpy()
                advance(completed=start + len(chosen))
        return out
