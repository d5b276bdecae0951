"""The model and the examples of a training job, from its folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from storage.durable import replace_whole
from storage.language_model import ADAPTER, adapter_weights, load_base, load_projector, load_tokenizer, read_settings
from storage.rec_data import load_item_texts, load_samples, load_signals, users_digest, users_of_cluster
from storage.schemas import REFLECTIONS
from storage.tables import read_table
from tasks.worker.job import TrainingJob
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ModelError, StoreError, TrainingError
from thinkrec_core.evaluation.ladder import pick_test_rows
from thinkrec_core.recllm.adapters import add_lora
from thinkrec_core.recllm.answers import AnswerTokens, choose_answer_tokens
from thinkrec_core.recllm.examples import BatchKind, Example, ExampleFactory, collate
from thinkrec_core.recllm.model import RecLLM, ScoreOptions, embedding_rms
from thinkrec_core.recllm.projector import Projector
from thinkrec_core.recllm.prompt import PromptBuilder, PromptKind, PromptOptions
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.scoring import score_examples
from thinkrec_core.recllm.tokens import PieceTokenizer
from thinkrec_core.seeds import derived_seed, generator

OFFSET_ROWS = 64
"""Train rows whose mean start logit becomes `logit_offset`."""
SURFACE_ROWS = 4
"""Prompts on which the surface form of Yes is chosen."""


def prompt_options(config: ThinkRecConfig) -> PromptOptions:
    """What prompts show under `config`."""
    return PromptOptions(
        max_history=config.llm.max_history,
        max_tokens=config.llm.max_prompt_tokens,
        n_tokens=config.llm.projector.n_tokens,
        keywords=config.llm.keywords,
        history_labels=config.data.history == "labelled",
        history_slots=config.llm.history_soft_tokens,
        chat=config.llm.chat_template,
    )


class Examples:
    """Factories of the splits of one run, made when first asked for."""

    def __init__(self, config: ThinkRecConfig, data: Path, encoder: Path, tokenizer: PieceTokenizer) -> None:
        self._config, self._data, self._encoder = config, data, encoder
        self.tokenizer = tokenizer
        self.train = load_samples(data, encoder, "train")
        if config.training.prior in ("bias", "stacker") and self.train.prior_logit is None:
            raise StoreError(
                f"{encoder} has no logits of training.prior {config.training.prior}", "an artifact of stage prior"
            )
        self.signals = load_signals(encoder, self.train, config.llm.projector.inputs)
        self.prompts = PromptBuilder(tokenizer, load_item_texts(data), prompt_options(config))

    def factory(self, samples: Samples, answers: AnswerTokens, with_prior: bool) -> ExampleFactory:
        """Examples of `samples`."""
        limit = self._config.reflections.max_trace_tokens
        return ExampleFactory(self.prompts, self.signals, answers, samples, with_prior, limit)

    def samples(self, split: str) -> Samples:
        """The samples of `split`."""
        return self.train if split == "train" else load_samples(self._data, self._encoder, split)  # type: ignore[arg-type]


@dataclass
class Workbench:
    """A model and everything that makes its examples."""

    model: RecLLM
    settings: dict[str, Any]
    """recllm.json of the artifact."""
    make: Callable[[int, BatchKind, PromptKind], Example]
    valid: Callable[[PromptKind], list[Example]]
    recommendation_rows: list[int]
    reasoning_rows: list[int]
    lengths: Callable[[PromptKind], dict[BatchKind, list[int]]]
    """Tokens of the samples of `recommendation_rows` and `reasoning_rows`, in their order."""
    cut_traces: int
    pad_id: int
    group: str
    """Whose training this is, for its seeds: the digest of the expert's users, or 0 where all users train."""


def open_workbench(job: TrainingJob) -> Workbench:
    """Everything that the phases of `job` need; the LM in fp32 with its adapter injected."""
    config = job.config
    tokenizer = load_tokenizer(job.model)
    examples = Examples(config, job.data, job.encoder, tokenizer)
    causal = load_base(job.model, torch.float32)
    if job.start_from is not None:
        settings = read_settings(job.start_from)
        projector = load_projector(job.start_from, settings)
        answers, options = AnswerTokens(**settings["answers"]), ScoreOptions(**settings["score"])
    else:
        projector = fresh_projector(config, examples.signals.size, causal)
        answers, options = start_answers(config, causal, projector, examples)
    lora = config.llm.lora
    seed = derived_seed(config.seed, "lora")
    peft = add_lora(causal, lora.rank, lora.alpha, lora.dropout, lora.target_modules, seed)
    if job.start_from is not None:
        _continue_adapter(peft, job.start_from / ADAPTER)
    model = RecLLM(peft, projector, answers, options)
    settings = {
        "answers": vars(answers),
        "score": vars(options),
        "slot_input_size": examples.signals.size,
        "hidden_size": projector.hidden_size,
        "multiplier": config.llm.projector.multiplier,
        "n_tokens": projector.n_tokens,
    }
    with_prior = config.training.prior != "none"
    train = examples.factory(examples.train, answers, with_prior)
    group, users = _group_of(job)
    traces = _traces(job.reflections, examples.train, users)
    valid_factory = examples.factory(examples.samples("valid"), answers, with_prior)
    valid_rows = _valid_rows(job, valid_factory.samples, users)
    told = {row: train.make(row, "text", traces[row]).answer for row in sorted(traces)}
    rows = _train_rows(job, examples.train, users, group)

    def lengths(prompt: PromptKind) -> dict[BatchKind, list[int]]:
        histories = examples.prompts.history_lengths(prompt, examples.train)
        reasons = [int(histories[row]) + len(answer.ids) for row, answer in told.items()]
        return {"recommendation": histories[rows].tolist(), "reasoning": reasons}

    return Workbench(
        model=model,
        settings=settings,
        make=lambda row, kind, prompt: train.make(row, prompt, traces[row] if kind == "reasoning" else None),
        valid=lambda prompt: [valid_factory.make(int(row), prompt) for row in valid_rows],
        recommendation_rows=rows,
        reasoning_rows=list(told),
        lengths=lengths,
        cut_traces=sum(answer.cut for answer in told.values()),
        pad_id=tokenizer.pad_id,
        group=group,
    )


def _continue_adapter(peft: PeftModel, folder: Path) -> None:
    """Give `peft` the adapter in `folder`; PEFT itself leaves out what does not fit.

    Raises:
        ModelError: the adapter is of another base model, or of other target modules or rank.
    """
    weights = adapter_weights(folder)
    own = {name: tuple(value.shape) for name, value in get_peft_model_state_dict(peft).items()}
    theirs = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = sorted({name for name, _ in own.items() ^ theirs.items()})
    if wrong:
        raise ModelError(
            f"adapter {folder} has {theirs.get(wrong[0], 'nothing')} for {wrong[0]}",
            f"{own.get(wrong[0], 'nothing')}",
            "continue an adapter of the same base model, with the same llm.lora",
        )
    set_peft_model_state_dict(peft, weights)


def fresh_projector(config: ThinkRecConfig, size: int, causal: Any) -> Projector:
    """An untrained projector at the scale of the LM's token embeddings."""
    weights = torch.Generator().manual_seed(derived_seed(config.seed, "projector"))
    settings = config.llm.projector
    return Projector(
        size, causal.config.hidden_size, settings.multiplier, settings.n_tokens, embedding_rms(causal), weights
    )


def start_answers(
    config: ThinkRecConfig, causal: Any, projector: Projector, examples: Examples
) -> tuple[AnswerTokens, ScoreOptions]:
    """The surface form of Yes and the score options, measured on the untrained LM with a seeded train sample."""
    draw = generator(config.seed, "logit_offset")
    count = min(OFFSET_ROWS, len(examples.train))
    rows = np.sort(draw.choice(len(examples.train), count, replace=False))
    provisional = AnswerTokens(0, 1, "")
    factory = examples.factory(examples.train, provisional, with_prior=False)
    probe = RecLLM(causal, projector, provisional, ScoreOptions())
    prompt: PromptKind = "id" if config.training.schedule == "joint" else "text"
    made = [factory.make(int(row), prompt) for row in rows]
    with torch.no_grad():
        batch = collate(made[:SURFACE_ROWS], examples.tokenizer.pad_id, projector.n_tokens, with_answers=False)
        answers = choose_answer_tokens(examples.tokenizer, probe.next_token_logits(batch))
    options = ScoreOptions(config.llm.score, config.llm.score_scale, 0.0)
    if config.llm.logit_offset:
        unscaled = RecLLM(causal, projector, answers, replace(options, scale=1.0))
        scores = score_examples(unscaled, made, examples.tokenizer.pad_id, batch_size=8)
        options = replace(options, offset=float(scores.mean()))
    return answers, options


def _group_of(job: TrainingJob) -> tuple[str, set[int] | None]:
    """Digest and users of the expert's cluster; "0" and None where the training sees all users."""
    if job.clusters is None or job.cluster is None:
        return "0", None
    return users_digest(job.clusters, job.cluster), set(users_of_cluster(job.clusters, job.cluster).tolist())


def _train_rows(job: TrainingJob, train: Samples, users: set[int] | None, group: str) -> list[int]:
    rows = np.arange(len(train)) if users is None else np.flatnonzero(np.isin(train.user_idx, sorted(users)))
    if not len(rows):
        raise TrainingError(f"cluster {job.cluster} has no train rows", next_step="use fewer experts.count")
    config = job.config
    by_kind = {"expert": config.experts.training, "warm_start": config.warm_start, "general": config.training}
    wanted = by_kind[job.kind].train_rows
    if wanted is not None and wanted < len(rows):
        chosen = generator(job.config.seed, "train_rows", job.kind, group).choice(rows, wanted, replace=False)
        rows = np.sort(chosen)
    return rows.tolist()


def _traces(reflections: Path | None, train: Samples, users: set[int] | None) -> dict[int, str]:
    """Accepted traces by train row."""
    if reflections is None:
        return {}
    table = read_table(reflections / "reflections.parquet", REFLECTIONS, ["row", "trace", "accepted"])
    kept = {row["row"]: row["trace"] for row in table.to_pylist() if row["accepted"]}
    return {row: trace for row, trace in kept.items() if users is None or int(train.user_idx[row]) in users}


def _valid_rows(job: TrainingJob, valid: Samples, users: set[int] | None) -> np.ndarray:
    eligible = np.arange(len(valid))
    if users is not None:
        own = np.flatnonzero(np.isin(valid.user_idx, sorted(users)))
        eligible = own if len(own) else eligible
    draw = generator(job.config.seed, "valid_rows")
    return eligible[pick_test_rows(valid.user_idx[eligible], job.config.training.valid_rows, draw)]


def model_state(model: RecLLM) -> dict[str, torch.Tensor]:
    """All weights that can train, adapter and projector, as they are now."""
    return {name: value.detach().contiguous() for name, value in model.state_dict().items() if is_trainable(name)}


def save_state(model: RecLLM, path: Path) -> None:
    """Write `model_state` to `path`, whole or not at all."""
    partial = path.with_suffix(".partial")
    save_file(model_state(model), partial)
    replace_whole(partial, path)


def load_state(model: RecLLM, path: Path) -> None:
    """Give `model` the weights of `save_state`."""
    own = model.state_dict()
    for name, value in load_file(path).items():
        assert is_trainable(name)
        own[name].copy_(value)


def is_trainable(name: str) -> bool:
    """Whether a state name belongs to the adapter or the projector."""
    return "lora_" in name or name.startswith("projector.")
