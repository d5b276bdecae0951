"""A loaded bundle that scores, ranks and explains: candidates from the encoder, re-ranked by the LLM on the user's route.

Scores are those of the evaluation for the same user, item and history. Users that the bundle does not know are served from
titles they like: the encoder then knows no user vector, and the general adapter answers.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors

from storage.bundle import Bundle
from storage.language_model import load_base, load_stacked, load_tokenizer
from storage.models import resolve_model
from storage.prior_data import read_prior
from storage.rec_data import SIGNALS, load_encoder_tables, load_item_texts, load_routes
from storage.schemas import BUNDLE_SEEN, BUNDLE_USERS, ITEMS
from storage.tables import ragged, read_table
from tasks.worker.build import prompt_options
from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.examples import Examples
from thinkrec_core.encoders.fit import score_examples as encoder_scores
from thinkrec_core.encoders.registry import restore_encoder
from thinkrec_core.errors import DataError, ModelError
from thinkrec_core.evaluation.text.titles import TitleIndex
from thinkrec_core.experts.router import columns_of
from thinkrec_core.experts.shared_depth import score_gated
from thinkrec_core.recllm.depth import takes_trees
from thinkrec_core.recllm.examples import ExampleFactory
from thinkrec_core.recllm.generation import explain
from thinkrec_core.recllm.prefix import score_targets
from thinkrec_core.recllm.prompt import PromptBuilder
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.signals import Signals

BATCH = 16
STRONGEST = 3
"""History items shown beside a recommendation: those whose vectors are nearest to the target's."""
_YEAR = re.compile(r"\s*\(\d{4}\)\s*$")


@dataclass(frozen=True)
class Reader:
    """Whom a list is for: a known user, or somebody with liked titles."""

    user_idx: int
    """0 for a stranger."""
    items: tuple[int, ...]
    """History, oldest first."""
    labels: tuple[int, ...]
    name: str


@dataclass(frozen=True)
class Scored:
    """R scored targets."""

    items: npt.NDArray[np.int64]
    encoder: npt.NDArray[np.float64]
    """(R,) logit of the encoder."""
    llm: npt.NDArray[np.float64]
    """(R,) score of the LLM without prior."""
    final: npt.NDArray[np.float64]
    """(R,) what the evaluation calls the score: with the prior where training had one."""


class Recommender:
    """Everything of one bundle in memory.

    Args:
        bundle: verified.
        beside: another one in memory; where both have the same base model, its weights are held once.

    Raises:
        ModelError: the base model is another than the bundle was trained on, or cannot be loaded.
    """

    def __init__(self, bundle: Bundle, beside: Recommender | None = None) -> None:
        path, self.config = bundle.path, bundle.config
        self.bundle = bundle
        base = resolve_model(self.config.llm.model)
        if base.digest != bundle.facts["base"]["digest"]:
            raise ModelError(
                f"base model {self.config.llm.model} has digest {base.digest[:16]}",
                f"{str(bundle.facts['base']['digest'])[:16]}, that of the bundle",
                "fetch the revision that it was trained on",
            )
        self.tokenizer = load_tokenizer(base.path)
        experts = [path / f"expert_{number}" for number in bundle.experts]
        held = None if beside is None or beside.base[0] != base.digest else beside.base[1]
        self.base: tuple[str, Any] = (base.digest, held or load_base(base.path, torch.float32))
        """Digest of the base LM, and the LM itself without adapters."""
        self.model, self._gates = load_stacked(base.path, path / "general", experts, self.base[1])
        routes = load_routes(path / "clusters", self.config.experts.router)  # those that were evaluated
        self.gates_of_user: npt.NDArray[np.float64] = routes.gates[:, columns_of(bundle.experts)]
        self._routes = routes.route.tolist()
        self._load_encoder()
        self.texts = load_item_texts(path)
        self.item_ids = ["", *read_table(path / "items.parquet", ITEMS, ["item_id"]).column(0).to_pylist()]
        self._items = {raw: index for index, raw in enumerate(self.item_ids) if index}
        self._load_users()
        self._prompts = PromptBuilder(self.tokenizer, self.texts, prompt_options(self.config))

    @cached_property
    def _title_index(self) -> TitleIndex:
        return TitleIndex(self.texts.titles)

    @property
    def user_vectors(self) -> npt.NDArray[np.float32]:
        """(U+1, d) standardised vectors of the encoder; row 0 is nobody's."""
        return self._signals.user_vectors

    @property
    def user_ids(self) -> list[str]:
        """Raw ids of the known users, in the order of their indices."""
        return list(self._users)

    def user(self, raw: str) -> Reader:
        """The known user `raw`.

        Raises:
            DataError: nobody is called so.
        """
        index = self._users.get(raw)
        if index is None:
            raise DataError(f"user {raw!r} is not in the bundle", f"one of {len(self._users)} users")
        part = slice(int(self._offsets[index - 1]), int(self._offsets[index]))
        return Reader(index, tuple(self._history[part].tolist()), tuple(self._labels[part].tolist()), raw)

    def stranger(self, liked: Sequence[str]) -> Reader:
        """Somebody who likes these titles, oldest first.

        Raises:
            DataError: a title is unknown or names several items.
        """
        items = tuple(self.item_by_title(title) for title in liked)
        return Reader(
            0, items, (1,) * len(items), "somebody who likes " + ", ".join(self.texts.titles[i] for i in items)
        )

    def item(self, raw: str) -> int:
        """item_idx of the raw id `raw`.

        Raises:
            DataError: there is none.
        """
        if raw not in self._items:
            raise DataError(f"item {raw!r} is not in the bundle", f"one of {len(self._items)} items")
        return self._items[raw]

    def item_by_title(self, title: str) -> int:
        """item_idx of a title; case and a year at its end may be left out.

        Raises:
            DataError: no item, or several, are called so.
        """
        wanted = title.strip().casefold()
        names = {index: text.casefold() for index, text in enumerate(self.texts.titles) if index}
        found = [index for index, name in names.items() if name == wanted]
        found = found or [index for index, name in names.items() if _YEAR.sub("", name) == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            named = "; ".join(self.texts.titles[index] for index in found[:5])
            raise DataError(f"title {title!r} names {len(found)} items: {named}", "one of them in full")
        near = difflib.get_close_matches(wanted, [_YEAR.sub("", name) for name in names.values()], n=1, cutoff=0.6)
        raise DataError(f"no item has the title {title!r}", f"perhaps {near[0]!r}" if near else "a title of the data")

    def seen(self, reader: Reader) -> npt.NDArray[np.int64]:
        """Items that are not recommended again: rated ones, and those of the history."""
        rated = self._seen_items[self._seen_starts[reader.user_idx] : self._seen_starts[reader.user_idx + 1]]
        return np.union1d(rated, np.asarray(reader.items, np.int64))

    def score(self, reader: Reader, items: npt.NDArray[np.int64]) -> Scored:
        """The scores of `items` for one reader, behind one shared beginning of their prompts."""
        readers = [reader] * len(items)
        if takes_trees(self.model.causal.base_model):
            return self.score_rows(readers, items)
        samples = self._samples(readers, items)
        made = self._made(samples)
        llm = score_targets(self.model, made, self.tokenizer.pad_id, BATCH, self._setter(samples.user_idx))
        return self._scored(samples, llm)

    def score_rows(self, readers: Sequence[Reader], items: npt.NDArray[np.int64]) -> Scored:
        """The scores of (reader, item) pairs of many readers in mixed batches, each on its reader's route."""
        samples = self._samples(readers, items)
        made = self._made(samples)
        gates = self.gates_of_user[samples.user_idx]
        llm = score_gated(self.model, self._gates, made, [gates], self.tokenizer.pad_id, BATCH)[0]
        return self._scored(samples, llm)

    def recommend(self, reader: Reader, top_k: int, candidates: int) -> list[dict[str, Any]]:
        """The `top_k` best of the encoder's `candidates` unseen items, best first.

        Each has rank, item_id, title, score, probability, encoder_score, encoder_rank, and strongest: titles of history
        items whose vectors are nearest to the item's.
        """
        everything = np.arange(1, len(self.item_ids))
        unseen = everything[~np.isin(everything, self.seen(reader))]
        if not len(unseen):
            return []
        logits = self._encoder_logits([reader] * len(unseen), unseen)
        order = np.lexsort((unseen, -logits))[:candidates]
        scored = self.score(reader, unseen[order])
        best = np.lexsort((scored.items, -scored.final))[:top_k]
        return [
            {
                "rank": rank,
                "item_id": self.item_ids[int(scored.items[place])],
                "title": self.texts.titles[int(scored.items[place])],
                "score": float(scored.final[place]),
                "probability": float(1 / (1 + np.exp(-scored.final[place]))),
                "encoder_score": float(scored.encoder[place]),
                "encoder_rank": int(place) + 1,
                "strongest": self.strongest(reader, int(scored.items[place])),
            }
            for rank, place in enumerate(best, start=1)
        ]

    def explain(self, reader: Reader, item: int, score: float, told: Callable[[str], None] | None = None) -> str:
        """Why, in the student's words, after the verdict that `score` implies.

        Args:
            told: called with the text so far while it is written; what it raises ends the writing.
        """
        samples = self._samples([reader], np.array([item]))
        self._setter(samples.user_idx)(np.zeros(1, np.int64))
        example = self._made(samples)[0]
        return explain(self.model, self.tokenizer, example, score > 0, self.config.evaluation.explanation_tokens, told)

    def ungrounded(self, reader: Reader, item: int, text: str) -> list[str]:
        """What `text` names as a title without reason: catalogue titles outside of the history that the prompt shows and of the
        target, and quoted titles that the catalogue does not hold.
        """
        named = self._title_index.named(text)
        return [*named.ungrounded({*reader.items[-self.config.llm.max_history :], item}), *named.unknown]

    def strongest(self, reader: Reader, item: int) -> list[str]:
        """Titles of the history items most like `item` by the cosine of their vectors, strongest first."""
        if not reader.items:
            return []
        history = np.asarray(reader.items)
        vectors = self._signals.item_vectors
        lengths = np.linalg.norm(vectors[history], axis=1) * np.linalg.norm(vectors[item])
        cosine = vectors[history] @ vectors[item] / np.maximum(lengths, 1e-12)
        return [self.texts.titles[int(history[place])] for place in np.lexsort((history, -cosine))[:STRONGEST]]

    def route(self, reader: Reader) -> dict[str, Any]:
        """route (general, single or fusion) and the gate of each adapter."""
        names = ["general", *(f"expert_{number}" for number in self.bundle.experts)]
        gates = self.gates_of_user[reader.user_idx].tolist()
        return {"route": self._routes[reader.user_idx], "gates": dict(zip(names, gates, strict=True))}

    def _scored(self, samples: Samples, llm: npt.NDArray[np.float64]) -> Scored:
        prior = samples.prior if self.config.training.prior != "none" else 0.0
        return Scored(samples.item_idx, samples.encoder_logit, llm, llm + prior)

    def _made(self, samples: Samples) -> list[Any]:
        limit = self.config.reflections.max_trace_tokens
        factory = ExampleFactory(self._prompts, self._signals, self.model.answers, samples, False, limit)
        return [factory.make(row, self.config.training.scored_prompt) for row in range(len(samples))]

    def _setter(self, users: npt.NDArray[np.int64]) -> Any:
        return lambda chosen: self._gates.set(torch.tensor(self.gates_of_user[users[chosen]], dtype=torch.float32))

    def _samples(self, readers: Sequence[Reader], items: npt.NDArray[np.int64]) -> Samples:
        rows = self._examples(readers, items)
        return Samples(
            user_idx=rows.user_idx,
            item_idx=rows.item_idx,
            label=rows.label,
            history_offsets=rows.history_offsets,
            history_items=rows.history_items,
            history_labels=rows.history_labels,
            encoder_logit=encoder_scores(self._encoder, rows).astype(np.float64),
            prior_logit=None if self._prior is None else self._prior.logits(rows),
        )

    def _encoder_logits(self, readers: Sequence[Reader], items: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return encoder_scores(self._encoder, self._examples(readers, items)).astype(np.float64)

    def _examples(self, readers: Sequence[Reader], items: npt.NDArray[np.int64]) -> Examples:
        longest = self.config.data.max_history
        histories = [(reader.items[-longest:], reader.labels[-longest:]) for reader in readers]
        return Examples(
            user_idx=np.array([reader.user_idx for reader in readers], np.int64),
            item_idx=np.asarray(items, np.int64),
            label=np.zeros(len(readers), np.int64),
            history_offsets=np.cumsum([0, *(len(one) for one, _ in histories)]),
            history_items=np.array([item for one, _ in histories for item in one], np.int64),
            history_labels=np.array([label for _, labels in histories for label in labels], np.int64),
        )

    def _load_encoder(self) -> None:
        folder = self.bundle.path / "encoder"
        config: EncoderConfig = self.config.encoder
        self._encoder = restore_encoder(config, load_tensors(folder / "weights.safetensors"))
        statistics = load_file(folder / SIGNALS)
        self._prior = read_prior(folder) if self.config.training.prior in ("bias", "stacker") else None
        tables = load_encoder_tables(folder)
        self._signals = Signals.restored(tables, statistics, self.config.llm.projector.inputs)

    def _load_users(self) -> None:
        users = read_table(self.bundle.path / "users.parquet", BUNDLE_USERS)
        owners = users.column("user_idx").to_numpy()
        if not len(owners) or owners[0] < 1 or (np.diff(owners) <= 0).any():
            raise DataError(
                f"{self.bundle.path}/users.parquet is out of order", "user_idx ascending", "export it again"
            )
        self._users = dict(zip(users.column("user_id").to_pylist(), owners.tolist(), strict=True))
        offsets, self._history = ragged(users.column("history_item_idx"))
        lengths = np.zeros(int(owners[-1]) + 1, np.int64)  # a user without rows in the windows has no place here
        lengths[owners] = np.diff(offsets)
        self._offsets = np.cumsum(lengths)
        self._labels = ragged(users.column("history_label"))[1]
        seen = read_table(self.bundle.path / "seen.parquet", BUNDLE_SEEN)
        owners = seen.column("user_idx").to_numpy()
        self._seen_items = seen.column("item_idx").to_numpy().astype(np.int64)
        self._seen_starts = np.searchsorted(owners, np.arange(len(lengths) + 1))
