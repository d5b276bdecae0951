"""A whole tiny recommender: the tiny LM with a random adapter, a projector, and factories of examples of the tiny world."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from tests.tiny_model import randomise_lora, tiny_causal, tiny_pieces
from tests.tiny_world import World, tiny_world
from thinkrec_core.recllm.adapters import add_lora
from thinkrec_core.recllm.answers import AnswerTokens
from thinkrec_core.recllm.examples import ExampleFactory
from thinkrec_core.recllm.model import RecLLM, ScoreOptions
from thinkrec_core.recllm.projector import Projector
from thinkrec_core.recllm.prompt import PromptBuilder, PromptOptions
from thinkrec_core.recllm.signals import Signals
from thinkrec_core.recllm.tokens import PieceTokenizer

OPTIONS = PromptOptions(max_history=10, max_tokens=512)


@dataclass(frozen=True)
class Tiny:
    """The parts of a tiny recommender."""

    world: World
    pieces: PieceTokenizer
    signals: Signals
    model: RecLLM

    def factory(self, options: PromptOptions = OPTIONS, with_prior: bool = False) -> ExampleFactory:
        """Examples of the train rows."""
        options = replace(options, n_tokens=self.model.projector.n_tokens)
        prompts = PromptBuilder(self.pieces, self.world.texts, options)
        samples = self.world.samples["train"]
        return ExampleFactory(prompts, self.signals, self.model.answers, samples, with_prior, 409)


def tiny_recllm(
    n_tokens: int = 1, options: ScoreOptions | None = None, lora: bool = True, scalars: bool = True
) -> Tiny:
    """The recommender in eval mode; `lora=False` leaves the LM bare."""
    world, pieces = tiny_world(), tiny_pieces()
    signals = Signals(world.tables, world.samples["train"], "vectors_and_scalars" if scalars else "vectors")
    lm: torch.nn.Module = tiny_causal()
    if lora:
        lm = add_lora(lm, 4, 8, 0.05, ("q_proj", "v_proj"), seed=3)
        randomise_lora(lm, seed=4)
    projector = Projector(signals.size, 32, 3, n_tokens, 0.2, torch.Generator().manual_seed(5))
    answers = AnswerTokens(pieces.literal(" Yes")[0], pieces.literal(" No")[0], " Yes")
    return Tiny(world, pieces, signals, RecLLM(lm, projector, answers, options or ScoreOptions()).eval())
