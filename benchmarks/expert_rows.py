"""What `experts.py` measures: made-up rows of many users, a base model with random adapters, and both ways to score them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel

from benchmarks.scoring import GENRES, WORDS
from storage.language_model import load_base, load_tokenizer, shared_copy
from tasks.gate_scorer import BATCH
from thinkrec_core.experts.shared_depth import score_gated
from thinkrec_core.experts.stacked import AdapterWeights, Gates, stack_adapters
from thinkrec_core.recllm.adapters import add_lora, layer_of
from thinkrec_core.recllm.answers import AnswerTokens
from thinkrec_core.recllm.examples import Example, ExampleFactory, collate
from thinkrec_core.recllm.model import RecLLM, ScoreOptions
from thinkrec_core.recllm.projector import Projector
from thinkrec_core.recllm.prompt import ItemTexts, PromptBuilder, PromptOptions
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.signals import SCALARS, EncoderTables, Signals

RANK, ALPHA, MODULES = 8, 16.0, ("q_proj", "v_proj")
ITEMS, SIZE, PUBLISHED_BATCH, LAST_LAYERS = 400, 64, 2, 8
HISTORY = (4, 10)
"""Fewest and most items of a history."""
Cut = tuple[tuple[int, ...], ...]
"""Rows of a user behind one history, by history; users take turns among several cuts."""
SETS: dict[str, Cut] = {"one_row": ((1,),), "candidates": ((8,),), "test_rows": ((4, 2, 1, 1), (5, 2, 1))}


@dataclass(frozen=True)
class Rows:
    """Rows user by user, and within a user history by history."""

    examples: list[Example]
    gates: npt.NDArray[np.float64]
    """(R, N); those of a user are equal."""

    def first(self, users: int) -> Rows:
        """The rows of the first users."""
        known = list(dict.fromkeys(example.user for example in self.examples))[:users]
        kept = [row for row, example in enumerate(self.examples) if example.user in known]
        return Rows([self.examples[row] for row in kept], self.gates[kept])


class Bench:
    """The model twice, on the same weights: with PEFT's adapters, and with the stack of all of them.

    Args:
        model: folder of the base LM.
        dtype: of body and adapters; the projector is fp32.
    """

    def __init__(self, model: Path, device: torch.device, dtype: torch.dtype, users: int, experts: int) -> None:
        self.dtype, self._device, self._users, self._experts = dtype, device, users, experts
        self._base: Any = load_base(model, torch.float32).to(device, dtype)  # type: ignore[arg-type]
        tokenizer = load_tokenizer(model)
        self.pad_id = tokenizer.pad_id
        self._answers = AnswerTokens(tokenizer.literal(" Yes")[0], tokenizer.literal(" No")[0], " Yes")
        draw = np.random.default_rng(7)
        titles = [f"The {' '.join(draw.choice(WORDS, 2, replace=False))} ({1950 + n % 70})" for n in range(ITEMS)]
        texts = ItemTexts(["", *titles], ["", *(GENRES[item % len(GENRES)] for item in range(ITEMS))])
        self._prompts = PromptBuilder(tokenizer, texts, PromptOptions(max_history=HISTORY[1], max_tokens=512))
        vectors = draw.normal(size=(ITEMS + 1, SIZE)).astype(np.float32)
        biases = np.zeros(users + 1, np.float32), np.zeros(ITEMS + 1, np.float32)
        self._tables = EncoderTables(vectors[: users + 1], vectors, *biases)
        self.peft, states = self._adapters()
        self.model, self.gates = self._stack(states)
        self._states = states
        lower = self._base.config.num_hidden_layers - LAST_LAYERS
        agreeing = [{name: (states[0] if layer_of(name) < lower else own)[name] for name in own} for own in states]
        self._agreeing = self._stack(agreeing)

    def rows(self, cuts: Cut) -> Rows:
        """The rows of every user; of its cut, the nth number is how many stand behind the nth history."""
        draw, logits = np.random.default_rng(3), torch.Generator().manual_seed(1)
        shares = torch.softmax(3 * torch.randn(self._users, self._experts, generator=logits), dim=1).double().numpy()
        user, target, histories = [], [], []
        for number in range(self._users):
            seen = draw.permutation(np.arange(1, ITEMS + 1)).tolist()
            start, length = 0, int(draw.integers(HISTORY[0], HISTORY[1] + 1))
            for count in cuts[number % len(cuts)]:
                targets = seen[start + length : start + length + count]
                user += [number + 1] * count
                target += targets
                histories += [seen[start : start + length]] * count
                start += max(1, count // 2)  # half of what was rated is liked, and the oldest items leave
        offsets = np.cumsum([0, *map(len, histories)])
        items = np.concatenate(histories)
        samples = Samples(
            user_idx=np.array(user),
            item_idx=np.array(target),
            label=np.zeros(len(user), np.int64),
            history_offsets=offsets,
            history_items=items,
            history_labels=items % 2,
            encoder_logit=draw.normal(size=len(user)),
        )
        signals = Signals(self._tables, samples, inputs="vectors_and_scalars")
        factory = ExampleFactory(self._prompts, signals, self._answers, samples, False, 64)
        return Rows([factory.make(row, "id") for row in range(len(user))], shares[np.array(user) - 1])

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def forward(self, lm: Any, rows: Rows) -> None:
        """Last hidden states of all rows as one batch, whole prompts: the head is the same for every variant and left out."""
        batch = collate(rows.examples, self.pad_id, 1, with_answers=False).to(self._device)
        body = lm.get_base_model().model if isinstance(lm, PeftModel) else lm.model
        body(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, use_cache=False)

    def stacked(self, rows: Rows, count: int) -> Callable[[], None]:
        """`forward` with a stack of `count` experts and gates of its own for every row."""
        model, gates = self._stack(self._states[:count])
        weights = torch.tensor(rows.gates[:, :count], dtype=torch.float32)

        def run() -> None:
            gates.set(weights)
            self.forward(model.causal, rows)

        return run

    def ours(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(1, R) scores by the engine of the evaluation."""
        return score_gated(self.model, self.gates, rows.examples, [rows.gates], self.pad_id, BATCH)

    def ladder(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(2, R) scores under the first adapter alone and under the gates, with experts that agree below the last layers."""
        model, gates = self._agreeing
        general = np.eye(self._experts)[np.zeros(len(rows.gates), int)]
        layers = model.causal.config.num_hidden_layers - LAST_LAYERS
        return score_gated(model, gates, rows.examples, [general, rows.gates], self.pad_id, BATCH, layers)

    @torch.no_grad()
    def published(self, rows: Rows, merging: bool = True) -> list[float]:
        """(R,) scores two by two, in the order in which the rows come.

        Args:
            merging: False scores all of them with the first adapter.
        """
        scores: list[float] = []
        merged = 0
        for start in range(0, len(rows.examples), PUBLISHED_BATCH):
            pair = rows.examples[start : start + PUBLISHED_BATCH]
            if merging and pair[0].user != merged:
                self._merge(rows.gates[start])
                merged = pair[0].user
            width = max(len(example.prompt.ids) for example in pair) + 1
            ids = torch.full((len(pair), width), self.pad_id)
            mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
            for row, example in enumerate(pair):
                length = len(example.prompt.ids)
                ids[row, width - 1 - length : -1] = torch.tensor(example.prompt.ids)
                mask[row, width - 1 - length :] = 1
            ids[:, -1] = labels[:, -1] = self._answers.yes_id
            given = {"input_ids": ids, "attention_mask": mask, "labels": labels}
            out = self.peft(**{name: value.to(self._device) for name, value in given.items()}, use_cache=False)
            scores += out.logits[:, -2, self._answers.yes_id].float().tolist()
        self._forget()
        return scores

    def merges(self, rows: Rows) -> None:
        """What `published` does to the adapters where every pair has another first user."""
        for gates in rows.gates[::PUBLISHED_BATCH]:
            self._merge(gates)
        self._forget()

    def _merge(self, gates: npt.NDArray[np.float64]) -> None:
        """Merge the experts for one user, and delete the adapter of the user before."""
        names = [str(number) for number in range(self._experts)]
        fresh, old = ("user_a", "user_b") if "user_b" in self.peft.peft_config else ("user_b", "user_a")
        self.peft.add_weighted_adapter(names, gates.tolist(), fresh, combination_type="linear")
        self.peft.set_adapter(fresh)
        if old in self.peft.peft_config:
            self.peft.delete_adapter(old)

    def _forget(self) -> None:
        """Leave the model as it was before the first merge."""
        self.peft.set_adapter("0")
        for name in ("user_a", "user_b"):
            if name in self.peft.peft_config:
                self.peft.delete_adapter(name)

    def _stack(self, states: list[AdapterWeights]) -> tuple[RecLLM, Gates]:
        causal, gates = shared_copy(self._base), Gates(len(states))
        stack_adapters(causal, states, ALPHA / RANK, gates)
        causal.to(self._device)
        size = SIZE + len(SCALARS)
        projector = Projector(size, causal.config.hidden_size, 10, 1, 0.1, torch.Generator().manual_seed(1))
        return RecLLM(causal, projector.to(self._device), self._answers, ScoreOptions()).to(self._device).eval(), gates

    def _adapters(self) -> tuple[PeftModel, list[AdapterWeights]]:
        """A PEFT model with the random adapters "0", "1", ..., and their states; "0" is active."""
        draw = torch.Generator().manual_seed(2)
        peft = add_lora(shared_copy(self._base), RANK, ALPHA, 0.0, MODULES, seed=0)
        config = peft.peft_config["default"]
        for number in range(self._experts):
            peft.add_adapter(str(number), config)
        peft.delete_adapter("default")
        peft.set_adapter("0")
        peft.to(self.dtype)  # PEFT holds adapters of a bf16 body in fp32 by itself, and computes them so
        states: list[AdapterWeights] = []
        parameters = peft.state_dict()
        for number in range(self._experts):
            own = {name: value for name, value in parameters.items() if f".{number}.weight" in name and "lora_" in name}
            for value in own.values():
                value.copy_(0.02 * torch.randn(value.shape, generator=draw))
            states.append(
                {name.replace(f".{number}.weight", ".weight"): value.cpu().clone() for name, value in own.items()}
            )
        return peft.eval(), states
