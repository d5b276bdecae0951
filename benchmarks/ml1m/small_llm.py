"""The LLM part of the CPU study: SmolLM2-135M trained alone on labels through its soft tokens, and its scores, both in pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.ml1m.floor import Floor, RowSignals, multiplier
from benchmarks.ml1m.study import Protocol
from benchmarks.ml1m.verdict import SELECT_BY, choose_weight
from storage.durable import replace_whole
from storage.encoder_data import read_examples
from storage.language_model import load_base, load_tokenizer
from storage.rec_data import load_item_texts
from tasks.worker.build import load_state, save_state
from tasks.worker.parameters import cast_frozen
from tasks.worker.torch_engine import TorchEngine
from thinkrec_core.recllm.adapters import add_lora, train_only
from thinkrec_core.recllm.answers import AnswerTokens, choose_answer_tokens
from thinkrec_core.recllm.examples import BatchKind, Example, ExampleFactory, collate
from thinkrec_core.recllm.model import RecLLM, ScoreOptions, embedding_rms
from thinkrec_core.recllm.objective import ObjectiveWeights
from thinkrec_core.recllm.plan import BatchPlan
from thinkrec_core.recllm.projector import Projector
from thinkrec_core.recllm.prompt import PromptBuilder, PromptOptions
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.schedule import Schedule
from thinkrec_core.recllm.scoring import score_examples
from thinkrec_core.recllm.selection import valid_figures
from thinkrec_core.recllm.sharing import score_shared
from thinkrec_core.recllm.training import Hooks, LoopState, Phase, run_phase
from thinkrec_core.seeds import derived_seed

Scores = npt.NDArray[np.float64]
Log = Callable[[str], None]
OFFSET_ROWS, SURFACE_ROWS = 64, 4


@dataclass(frozen=True)
class SmallBudget:
    """What the training and the scoring of one protocol may spend."""

    steps: int = 150
    batch_size: int = 16
    max_history: int = 5
    lora_rate: float = 5e-4
    projector_rate: float = 3e-3
    warmup: int = 15
    checkpoint_every: int = 10
    validate_every: int | None = None
    """Steps between two looks at valid rows, whose best weights are kept; None takes the last weights."""
    valid_rows: int = 1500
    """On which the weight of the LLM's logit is chosen, and the best weights."""
    score_batch: int = 16
    score_chunk: int = 64
    """Rows between two savings of scores."""


GPU_BUDGET = SmallBudget(
    steps=900,
    batch_size=48,
    max_history=10,
    warmup=60,
    checkpoint_every=50,
    validate_every=150,
    valid_rows=3000,
    score_batch=128,
    score_chunk=1024,
)
"""One and a quarter epochs of 33,891 rows: longer trainings got worse on valid."""


class SmallLLM:
    """The model of one protocol and the prompts of its rows.

    Args:
        data: the data artifact.
        valid_rows: (V,) rows on which the best weights are chosen.
        base: folder of the language model.
        folder: where checkpoints, weights and scores are kept.
        dtype: of the frozen body; adapter, projector and the answer's logit are fp32.
    """

    def __init__(
        self,
        protocol: Protocol,
        data: Path,
        floor: Floor,
        valid_rows: npt.NDArray[np.int64],
        base: Path,
        folder: Path,
        budget: SmallBudget,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
        tick: Callable[[], None],
        log: Log,
    ) -> None:
        self._data, self._floor, self._folder, self._budget, self._seed = data, floor, folder, budget, seed
        self._tick, self._log, self._dtype, self._device, self._valid_rows = tick, log, dtype, device, valid_rows
        self._tokens = load_tokenizer(base)
        options = PromptOptions(budget.max_history, 512, 1, "target", protocol == "labelled")
        self._prompts = PromptBuilder(self._tokens, load_item_texts(data), options)
        self._samples = {split: _samples(data, split) for split in ("train", "valid", "test")}
        causal = load_base(base, torch.float32)
        projector = self._projector(causal)
        self._answers, score = self._start(causal, projector)
        lm = add_lora(causal, 8, 16, 0.05, ("q_proj", "v_proj"), derived_seed(seed, "lora"))
        self.model = RecLLM(lm, projector, self._answers, score)

    def train(self) -> None:
        """Train, or go on from the last checkpoint, or read the finished weights."""
        weights = self._folder / "trained.safetensors"
        if not weights.is_file():
            self._train()
            save_state(self.model, weights)
            self._tick()
        load_state(self.model, weights)
        self.model.to(self._device)

    def scores(self, split: str, rows: Sequence[int], name: str, dtype: torch.dtype) -> Scores:
        """(len(rows),) scaled LLM logits of `rows` of `split`, kept as they are made in the file `name`.npy.

        Args:
            dtype: of the body.
        """
        path = self._folder / f"{name}.npy"
        found = np.load(path, allow_pickle=False) if path.is_file() else np.full(len(rows), np.nan)
        assert len(found) == len(rows), f"{path} holds other rows"
        cast_frozen(self.model, dtype)
        factory = self._factory(split, self._floor.features[split])
        # User by user: prompts of one user share what they have in common.
        owner = self._samples[split].user_idx[np.asarray(rows)]
        todo = [int(place) for place in np.argsort(owner, kind="stable") if math.isnan(found[place])]
        for start in range(0, len(todo), self._budget.score_chunk):
            places = todo[start : start + self._budget.score_chunk]
            made = [factory.make(int(rows[place]), "id") for place in places]
            found[places] = score_shared(self.model, made, self._tokens.pad_id, self._budget.score_batch)
            partial = path.with_suffix(".partial.npy")
            np.save(partial, found)
            replace_whole(partial, path)
            self._tick()
            self._log(f"{name}: {int(np.isfinite(found).sum())} of {len(rows)} rows")
        return found

    def _train(self) -> None:
        budget = self._budget
        train_only(self.model.lm, lora=True)  # type: ignore[arg-type]
        engine = TorchEngine(self.model, 1, 1e-3, self._dtype, self._device)
        features, base = self._floor.features["train"], len(self._samples["train"])
        replicas = [self._factory("train", features[start : start + base]) for start in range(0, len(features), base)]

        def make(number: int, _: BatchKind) -> Example:
            replica, row = divmod(number, base)
            return replicas[replica].make(row, "id")

        def rates(peak: float) -> Schedule:
            return Schedule(peak, peak / 10, peak / 10, budget.warmup)

        losses: list[float] = []

        def record(values: dict[str, Any]) -> None:
            if "bce" in values:
                losses.append(values["bce"])

        def checkpoint(now: LoopState) -> None:
            engine.save(checkpoints, now)
            self._tick()
            mean = float(np.mean(losses[-budget.checkpoint_every :]))
            self._log(f"training: step {now.step} of {budget.steps}, BCE {mean:.3f}")

        best = self._folder / "best.safetensors"

        def keep_best(now: LoopState) -> None:
            save_state(self.model, best)
            self._log(f"training: the weights of step {now.step} are the best so far, {now.best_score:.4f} on valid")

        checkpoints = self._folder / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        phase = Phase(
            name="joint",
            seed=self._seed,
            plan=BatchPlan(self._seed, "joint", range(len(features)), [], budget.batch_size, budget.steps, 0.0),
            weights=ObjectiveWeights(),
            schedules={"lora": rates(budget.lora_rate), "projector": rates(budget.projector_rate)},
            validate_every=budget.validate_every or budget.steps,
            checkpoint_every=budget.checkpoint_every,
            patience=budget.steps,
        )
        hooks = Hooks(record, keep_best, checkpoint)
        state, self.model = engine.resume(checkpoints), self.model.train()
        run_phase(engine, phase, make, self._tokens.pad_id, 1, self._validate, hooks, state)
        engine.close()
        load_state(self.model, best)

    def _validate(self) -> dict[str, float | None]:
        """The valid score of the floor with the LLM's logit at its best weight; 0 where nothing is chosen by it."""
        if self._budget.validate_every is None:
            return {"score": 0.0}
        rows, valid = self._valid_rows, self._samples["valid"]
        factory = self._factory("valid", self._floor.features["valid"])
        made = [factory.make(int(row), "id") for row in rows]
        llm = score_shared(self.model, made, self._tokens.pad_id, self._budget.score_batch)
        known = valid.user_idx[rows], valid.label[rows], self._floor.prior["valid"][rows]
        user, label, prior = known
        return valid_figures(user, label, prior + choose_weight(*known, llm) * llm, SELECT_BY)

    def _factory(self, split: str, features: npt.NDArray[np.float32]) -> ExampleFactory:
        signals: Any = RowSignals(features)
        return ExampleFactory(self._prompts, signals, self._answers, self._samples[split], False, 8)

    def _projector(self, causal: Any) -> Projector:
        features = self._floor.features["train"]
        size, draw = features.shape[1], torch.Generator().manual_seed(derived_seed(self._seed, "projector"))
        rms = embedding_rms(causal)
        projector = Projector(size, causal.config.hidden_size, multiplier(size), 1, rms, draw)
        with torch.no_grad():
            projector.inner.weight.copy_(torch.from_numpy(self._floor.inner["weight"]))
            projector.inner.bias.copy_(torch.from_numpy(self._floor.inner["bias"]))
            loudness = projector(torch.from_numpy(features[:256])).pow(2).mean().sqrt()
            projector.outer.weight.mul_(rms / loudness)
            projector.outer.bias.mul_(rms / loudness)
        return projector

    def _start(self, causal: Any, projector: Projector) -> tuple[AnswerTokens, ScoreOptions]:
        """The surface form of Yes, and the score whose mean over a few train rows starts at 0."""
        self._answers = AnswerTokens(0, 1, "")
        factory = self._factory("train", self._floor.features["train"][: len(self._samples["train"])])
        step = len(self._samples["train"]) // OFFSET_ROWS
        made = [factory.make(row, "id") for row in range(0, OFFSET_ROWS * step, step)]
        probe = RecLLM(causal, projector, self._answers, ScoreOptions())
        with torch.no_grad():
            batch = collate(made[:SURFACE_ROWS], self._tokens.pad_id, 1, with_answers=False)
            answers = choose_answer_tokens(self._tokens, probe.next_token_logits(batch))
        options = ScoreOptions("yes_minus_no", 1.0, 0.0)
        start = score_examples(
            RecLLM(causal, projector, answers, options), made, self._tokens.pad_id, self._budget.score_batch
        )
        return answers, replace(options, scale=0.25, offset=float(start.mean()))


def _samples(data: Path, split: str) -> Samples:
    rows = read_examples(data / f"samples_{split}.parquet")
    return Samples(
        rows.user_idx,
        rows.item_idx,
        rows.label,
        rows.history_offsets,
        rows.history_items,
        rows.history_labels,
        np.zeros(len(rows)),
    )
