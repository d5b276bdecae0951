"""Scores of train rows by an LLM student, whose mistakes become reflections: the untrained LM, or the warm start."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from storage.language_model import load_base, load_stacked, load_tokenizer
from storage.models import resolve_model
from storage.store import ArtifactRef
from tasks.stage import RunContext
from tasks.worker.build import Examples, fresh_projector, start_answers
from thinkrec_core.recllm.model import RecLLM
from thinkrec_core.recllm.prompt import PromptKind
from thinkrec_core.recllm.sharing import score_shared

BATCH = 16


def score_student(
    context: RunContext, data: ArtifactRef, encoder: ArtifactRef, warm_start: ArtifactRef | None, rows: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """(len(rows),) scores of train rows: by the warm start on ID prompts, or by the untrained LM on text prompts."""
    config = context.config
    base = resolve_model(config.llm.model)
    tokenizer = load_tokenizer(base.path)
    examples = Examples(config, context.store.path(data), context.store.path(encoder), tokenizer)
    prompt: PromptKind
    if warm_start is not None:
        model, gates = load_stacked(base.path, context.store.path(warm_start), [])
        prompt, with_prior = "id", config.training.prior != "none"
        gates.set(torch.ones(1, 1))
    else:
        causal = load_base(base.path, torch.float32)
        projector = fresh_projector(config, examples.signals.size, causal)
        model = RecLLM(causal, projector, *start_answers(config, causal, projector, examples))
        prompt, with_prior = "text", False
    factory = examples.factory(examples.train, model.answers, with_prior)
    made = [factory.make(int(row), prompt) for row in np.asarray(rows)]
    with context.view.progress("scoring the student", len(made)) as advance:
        scores = score_shared(model, made, tokenizer.pad_id, BATCH, lambda done: advance(completed=done))
    return scores.astype(np.float32)
