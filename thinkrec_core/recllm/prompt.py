"""The prompt of one sample: token ids, the positions of its soft tokens, and what vector belongs to each.

Placeholders are positions, never token ids: a template is split at its placeholders once, its literal parts are tokenised
apart, and the position of every soft token is recorded while the ids are laid down. So the vocabulary is not resized, and a
title that contains "<UserID>" is only a title.

Differs: an empty history is a phrase without placeholders; the published code renders a fake item there and then drops the
collaborative vectors of the whole batch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from thinkrec_core.errors import ConfigError
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.tokens import KEYWORD_TOKENS, TITLE_TOKENS, PieceTokenizer

PromptKind = Literal["text", "id"]
SlotKind = Literal["user", "target", "history"]

TEXT_TEMPLATE = (
    "A user has rated these items, oldest first: <ItemTitleList>.\n"
    "Answer Yes or No: will this user like <TargetItemTitle>?"
)
ID_TEMPLATE = (
    "User <UserID> has rated these items, oldest first: <ItemTitleList>.\n"
    "Answer Yes or No: will this user like <TargetItemTitle> <TargetItemID>?"
)
PLAIN_END = "\nAnswer:"
EMPTY_HISTORY = "none so far"
_PLACEHOLDER = re.compile(r"<(UserID|ItemTitleList|HisItemList|TargetItemTitle|TargetItemID)>")


@dataclass(frozen=True)
class ItemTexts:
    """Titles and keywords by item_idx; index 0 is padding."""

    titles: Sequence[str]
    keywords: Sequence[str]


@dataclass(frozen=True)
class Slot:
    """One vector of the prompt: the first of its `n_tokens` consecutive positions and the entity it stands for."""

    position: int
    kind: SlotKind
    index: int
    """user_idx or item_idx."""
    label: int = 0
    """Label of a history item; 0 elsewhere."""


@dataclass(frozen=True)
class Prompt:
    """Token ids of a prompt, ending at the answer position, and its slots in order of position."""

    ids: tuple[int, ...]
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class PromptOptions:
    """What prompts show."""

    max_history: int
    max_tokens: int
    n_tokens: int = 1
    keywords: Literal["none", "target", "all"] = "target"
    history_labels: bool = True
    """False where histories hold liked items only."""
    history_slots: bool = False
    chat: bool = False


class PromptBuilder:
    """Prompts of samples under one tokenizer and one set of options."""

    def __init__(self, tokenizer: PieceTokenizer, items: ItemTexts, options: PromptOptions) -> None:
        self.tokenizer, self.items, self.options = tokenizer, items, options
        before, after = tokenizer.chat_frame() if options.chat else ("", PLAIN_END)
        self._parts: dict[PromptKind, list[tuple[str, list[int]]]] = {
            "text": _split(before + TEXT_TEMPLATE + after, tokenizer),
            "id": _split(before + self._id_template() + after, tokenizer),
        }
        self._separator, self._space = tokenizer.literal(","), tokenizer.literal(" ")
        self._labels = (tokenizer.literal(" (disliked"), tokenizer.literal(" (liked"))
        self._open, self._quote, self._close = tokenizer.literal(' "'), tokenizer.literal('"'), tokenizer.literal(")")
        self._unlabelled = tokenizer.literal(" (")
        self._divider = tokenizer.literal("; ")
        self._empty = tokenizer.literal(" " + EMPTY_HISTORY)

    def build(self, kind: PromptKind, user: int, target: int, history: Sequence[int], labels: Sequence[int]) -> Prompt:
        """The prompt for (user_idx, target item_idx) with its history, oldest first.

        Longer prompts than `max_tokens` lose their oldest history items; what follows the history, the answer position
        above all, is never cut.

        Raises:
            ConfigError: the prompt does not fit even without history.
        """
        keep = min(len(history), self.options.max_history)
        while True:
            recent = list(zip(history[len(history) - keep :], labels[len(labels) - keep :], strict=True))
            prompt = self._lay(kind, user, target, recent)
            if len(prompt.ids) <= self.options.max_tokens:
                return prompt
            if not keep:
                raise ConfigError(
                    f"llm.max_prompt_tokens {self.options.max_tokens} is too small",
                    f"at least {len(prompt.ids)} for a prompt without history",
                )
            keep -= 1

    def lengths(self, kind: PromptKind, samples: Samples) -> npt.NDArray[np.int64]:
        """(R,) tokens of the prompt of each sample before `max_tokens` cuts it, found without laying the prompts down."""
        fixed = len(self._lay(kind, 0, 0, []).ids) - len(self._empty) - self._item_length(0, None, target=True)
        target = np.array([self._item_length(item, None, target=True) for item in range(len(self.items.titles))])
        return fixed + target[samples.item_idx] + self.history_lengths(kind, samples)

    def history_lengths(self, kind: PromptKind, samples: Samples) -> npt.NDArray[np.int64]:
        """(R,) tokens of the history in the prompt of each sample before `max_tokens` cuts it; the target has no part in it."""
        options, items = self.options, range(len(self.items.titles))
        shown = np.zeros((2, len(items)), np.int64)
        for label in (0, 1):
            known = label if options.history_labels else None
            shown[label] = [self._item_length(item, known, target=False) for item in items]
        if kind == "id" and options.history_slots:
            shown += options.n_tokens
        # Each item but the first stands behind a separator; histories are cut to their newest items.
        running = np.concatenate(
            [[0], np.cumsum(shown[samples.history_labels, samples.history_items] + len(self._separator))]
        )
        end = samples.history_offsets[1:]
        start = np.maximum(samples.history_offsets[:-1], end - options.max_history)
        return np.where(end > start, running[end] - running[start] - len(self._separator), len(self._empty))

    def _item_length(self, item: int, label: int | None, target: bool) -> int:
        ids: list[int] = []
        self._item(ids, item, label, self.options.keywords == "all" or (target and self.options.keywords != "none"))
        return len(ids)

    def _id_template(self) -> str:
        return ID_TEMPLATE.replace("<ItemTitleList>", "<HisItemList>") if self.options.history_slots else ID_TEMPLATE

    def _lay(self, kind: PromptKind, user: int, target: int, history: list[tuple[int, int]]) -> Prompt:
        ids: list[int] = list(self.tokenizer.prefix)
        slots: list[Slot] = []
        for name, literal in self._parts[kind]:
            if name == "UserID":
                self._slot(ids, slots, Slot(len(ids), "user", user))
            elif name == "TargetItemID":
                self._slot(ids, slots, Slot(len(ids), "target", target))
            elif name == "TargetItemTitle":
                self._item(ids, target, None, self.options.keywords != "none")
            elif name in ("ItemTitleList", "HisItemList"):
                self._history(ids, slots, history, with_slots=name == "HisItemList")
            ids += literal
        return Prompt(tuple(ids), tuple(slots))

    def _history(self, ids: list[int], slots: list[Slot], history: list[tuple[int, int]], with_slots: bool) -> None:
        if not history:
            ids += self._empty
        for number, (item, label) in enumerate(history):
            if number:
                ids += self._separator
            self._item(ids, item, label if self.options.history_labels else None, self.options.keywords == "all")
            if with_slots:
                self._slot(ids, slots, Slot(len(ids), "history", item, label))

    def _item(self, ids: list[int], item: int, label: int | None, keywords: bool) -> None:
        ids += self._open
        ids += self.tokenizer.user_text(self.items.titles[item], TITLE_TOKENS)
        ids += self._quote
        words = self.tokenizer.user_text(self.items.keywords[item], KEYWORD_TOKENS) if keywords else ()
        if label is not None:
            ids += self._labels[label]
        if words:
            ids += self._divider if label is not None else self._unlabelled
            ids += words
        if label is not None or words:
            ids += self._close

    def _slot(self, ids: list[int], slots: list[Slot], slot: Slot) -> None:
        slots.append(slot)
        # Any id fills the positions of a soft token: its embedding is overwritten.
        ids += [self.tokenizer.pad_id] * self.options.n_tokens


def _split(template: str, tokenizer: PieceTokenizer) -> list[tuple[str, list[int]]]:
    """`template` as (placeholder before the literal, or "", ids of the literal)."""
    parts = [("", "")]
    last = 0
    for match in _PLACEHOLDER.finditer(template):
        name, literal = parts[-1]
        # The blank before a title belongs to the rendered item, which brings its own.
        text = template[last : match.start()]
        if match[1] in ("ItemTitleList", "HisItemList", "TargetItemTitle"):
            text = text.removesuffix(" ")
        parts[-1] = (name, literal + text)
        parts.append((match[1], ""))
        last = match.end()
    name, _ = parts[-1]
    parts[-1] = (name, template[last:])
    return [(name, tokenizer.literal(text)) for name, text in parts]
