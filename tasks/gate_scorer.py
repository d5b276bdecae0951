"""Scores of any rows under any gate settings, by the LM with the general adapter and the experts stacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.language_model import load_stacked
from tasks.view import View
from tasks.worker.build import Examples
from thinkrec_core.experts.shared_depth import score_gated
from thinkrec_core.recllm.examples import Example
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
        """(V, R) LLM scores of `rows` without prior under V settings (R, A) each.

        Args:
            shared: all weights of a row sum to one, so that the layers below the experts are the same in every setting.
            cross_terms: [compat] fuse as published.

        Raises:
            ValueError: a score is not finite.
        """
        made = self.make(samples, rows, prompt)
        pad_id, depth = self._examples.tokenizer.pad_id, self._shared if shared else 0
        with self._view.progress(f"scoring {prompt} prompts", len(made)) as advance:

            def told(done: int) -> None:
                advance(completed=done)

            return score_gated(self.model, self.gates, made, settings, pad_id, BATCH, depth, cross_terms, told)
