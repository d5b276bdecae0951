"""Examples: a prompt, the inputs of its soft tokens, its label, prior and answer; and batches of them.

Text and vectors of a sample are built together and their counts are asserted equal here, so a mismatch is an error where it
arises and never a silently dropped vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from thinkrec_core.recllm.answers import Answer, AnswerTokens, reasoning_answer, recommendation_answer
from thinkrec_core.recllm.prompt import Prompt, PromptBuilder, PromptKind
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.signals import Signals
from thinkrec_core.recllm.tree_attention import Forest

BatchKind = Literal["recommendation", "reasoning"]
IGNORED = -100
"""Target id of padding; counts in no loss."""


@dataclass(frozen=True)
class Example:
    """One training or scoring example."""

    prompt: Prompt
    slot_inputs: npt.NDArray[np.float32]
    """(slots, F)."""
    label: int
    prior: float
    answer: Answer
    row: int
    user: int


class ExampleFactory:
    """Examples of one split.

    Args:
        prompts: builder of prompts.
        signals: inputs of the soft tokens.
        answers: token ids of Yes and No.
        samples: the split's samples.
        with_prior: add the samples' prior; else every prior is 0.
        max_answer_tokens: bound of a reasoning answer.
    """

    def __init__(
        self,
        prompts: PromptBuilder,
        signals: Signals,
        answers: AnswerTokens,
        samples: Samples,
        with_prior: bool,
        max_answer_tokens: int,
    ) -> None:
        self.samples, self.answers = samples, answers
        self._prompts, self._signals, self._limit = prompts, signals, max_answer_tokens
        self._scalars = signals.scalars(samples)
        self._prior = samples.prior if with_prior else np.zeros(len(samples))

    def make(self, row: int, prompt: PromptKind, trace: str | None = None) -> Example:
        """The example of sample `row`; with a `trace` its answer is the verdict and the reflection."""
        samples = self.samples
        user, target, label = int(samples.user_idx[row]), int(samples.item_idx[row]), int(samples.label[row])
        history, labels = samples.history(row, self._prompts.options.max_history)
        built = self._prompts.build(prompt, user, target, history, labels)
        inputs = [self._signals.slot_input(slot, self._scalars[row]) for slot in built.slots]
        stacked = np.stack(inputs) if inputs else np.zeros((0, self._signals.size), np.float32)
        assert len(stacked) == len(built.slots), "every soft token of the text needs its vector"
        if trace is None:
            answer = recommendation_answer(self.answers, label)
        else:
            answer = reasoning_answer(self.answers, self._prompts.tokenizer, label, trace, self._limit)
        return Example(built, stacked, label, float(self._prior[row]), answer, row, user)


@dataclass(frozen=True)
class Batch:
    """B examples, right-padded to T tokens; their answers to L tokens.

    Right padding leaves position ids as they are; answer positions are gathered by true length. For scoring, prompts may stand as
    trees in one row (`trees`).
    """

    input_ids_BT: torch.Tensor
    attention_mask_BT: torch.Tensor
    answer_start_B: torch.Tensor
    """Position of the last prompt token: where the answer is read."""
    targets_BL: torch.Tensor
    """Answer ids, IGNORED where shorter."""
    label_B: torch.Tensor
    prior_B: torch.Tensor
    slot_example_S: torch.Tensor
    """Example of each slot."""
    slot_position_S: torch.Tensor
    """First position of each slot."""
    slot_inputs_SF: torch.Tensor
    lower_BTH: torch.Tensor | None = None
    """Hidden states from which the layers above `lower_depth` go on; None runs the whole body."""
    lower_depth: int = 0
    forest: Forest | None = None
    """Where prompts stand as trees in one row: who sees whom; else example b is row b."""
    position_BT: torch.Tensor | None = None
    """There: the position of every token in its own prompt."""
    tree_B: torch.Tensor | None = None
    """There: the tree of each example."""

    def read(self, with_answers: bool) -> torch.Tensor:
        """(B, T) true where the last hidden state counts: at the answer positions, and where the other answer tokens are predicted.

        Args:
            with_answers: the second kind too.
        """
        read_BT = torch.zeros_like(self.attention_mask_BT, dtype=torch.bool)
        read_BT[self.rows_of_examples(), self.answer_start_B] = True
        if with_answers:
            read_BT[self.predicting()] = True
        return read_BT

    def predicting(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,) examples and (N,) positions whose next tokens are those of the answers, in the order of targets_BL != IGNORED."""
        example_N, place_N = (self.targets_BL != IGNORED).nonzero(as_tuple=True)
        return example_N, self.answer_start_B[example_N] + place_N

    def rows_of_examples(self) -> torch.Tensor:
        """(B,) the row in which each example stands."""
        if self.forest is not None:
            return torch.zeros_like(self.answer_start_B)
        return torch.arange(len(self.answer_start_B), device=self.answer_start_B.device)

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)


def collate(examples: Sequence[Example], pad_id: int, n_tokens: int, with_answers: bool = True) -> Batch:
    """The batch of `examples`.

    Args:
        pad_id: any token id; padded positions are masked.
        n_tokens: soft tokens per slot, checked against the prompts' lengths.
        with_answers: append the answers but for their last token (teacher forcing); False for scoring.
    """
    assert examples, "a batch needs an example"
    rows: list[list[int]] = []
    slots: list[tuple[int, int]] = []
    for number, example in enumerate(examples):
        fed = example.answer.ids[:-1] if with_answers else ()
        rows.append([*example.prompt.ids, *fed])
        slots += [(number, slot.position) for slot in example.prompt.slots]
        assert all(slot.position + n_tokens < len(example.prompt.ids) for slot in example.prompt.slots)
    width = max(map(len, rows))
    longest = max(len(example.answer.ids) for example in examples)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    targets = torch.full((len(rows), longest), IGNORED)
    for number, (row, example) in enumerate(zip(rows, examples, strict=True)):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
        targets[number, : len(example.answer.ids)] = torch.tensor(example.answer.ids)
    placed = torch.tensor(slots, dtype=torch.long).reshape(-1, 2)
    return Batch(
        input_ids_BT=ids,
        attention_mask_BT=mask,
        answer_start_B=torch.tensor([len(example.prompt.ids) - 1 for example in examples]),
        targets_BL=targets,
        label_B=torch.tensor([float(example.label) for example in examples]),
        prior_B=torch.tensor([example.prior for example in examples], dtype=torch.float32),
        slot_example_S=placed[:, 0],
        slot_position_S=placed[:, 1],
        slot_inputs_SF=torch.from_numpy(np.concatenate([example.slot_inputs for example in examples])),
    )


def part(example: Example, start: int, stop: int) -> Example:
    """`example` reduced to the tokens start..stop of its prompt and the slots among them."""
    inside = [number for number, slot in enumerate(example.prompt.slots) if start <= slot.position < stop]
    kept = [example.prompt.slots[number] for number in inside]
    slots = tuple(replace(slot, position=slot.position - start) for slot in kept)
    prompt = Prompt(example.prompt.ids[start:stop], slots)
    return replace(example, prompt=prompt, slot_inputs=example.slot_inputs[inside])
