"""The fixed test rows and everything that scores or explains them: floors, encoder, and the LM with its adapters stacked."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from storage.crash_points import reached
from storage.durable import replace_whole
from storage.encoder_data import read_content, read_sizes
from storage.language_model import load_tokenizer
from storage.models import ResolvedModel
from storage.rec_data import Split, load_routes, trained_clusters
from storage.schemas import CLUSTERS, SAMPLES
from storage.store import ArtifactRef
from storage.tables import read_table
from tasks.gate_scorer import BATCH, GateScorer
from tasks.stage import RunContext
from tasks.worker.build import Examples
from thinkrec_core.config.evaluation import Rung
from thinkrec_core.encoders.bias import fit_bias
from thinkrec_core.evaluation import floors
from thinkrec_core.evaluation.expert_figures import expert_figures
from thinkrec_core.evaluation.ladder import pick_test_rows
from thinkrec_core.evaluation.routing_figures import routing_figures
from thinkrec_core.experts.router import FUSION, columns_of
from thinkrec_core.experts.variants import MERGED, variant_gates
from thinkrec_core.recllm.generation import explain_batch
from thinkrec_core.recllm.records import Samples
from thinkrec_core.seeds import generator

Scores = npt.NDArray[np.float64]


class ScoringBench:
    """The test rows and what scores them.

    Args:
        split: whose rows, where others are wanted.
        rows: row numbers in samples_{split}; None takes the rows of the evaluation.
    """

    def __init__(
        self,
        context: RunContext,
        base: ResolvedModel,
        data: ArtifactRef,
        encoder: ArtifactRef,
        general: ArtifactRef,
        clusters: ArtifactRef,
        experts: tuple[ArtifactRef, ...],
        split: Split = "test",
        rows: Sequence[int] | None = None,
    ) -> None:
        self._context, config, path = context, context.config, context.store.path
        self.config = config
        self.tokenizer = load_tokenizer(base.path)
        self.examples = Examples(config, path(data), path(encoder), self.tokenizer)
        self.test: Samples = self.examples.samples(split)
        draw = generator(config.seed, "test_rows")
        picked = pick_test_rows(self.test.user_idx, config.evaluation.test_rows, draw) if rows is None else rows
        self.rows = np.asarray(picked, dtype=np.int64)
        self.test_table = read_table(path(data) / f"samples_{split}.parquet", SAMPLES).take(self.rows)
        self._data = path(data)
        self._base, self._general = base.path, path(general)
        self._experts = [path(ref) for ref in experts]
        columns = read_table(path(clusters) / "clusters.parquet", CLUSTERS, ["cluster"])
        self._users = self.test.user_idx[self.rows]
        self._cluster = np.concatenate([[-1], columns.column("cluster").to_numpy()])
        self._routes = load_routes(path(clusters), config.experts.router)
        self._numbers = trained_clusters(path(clusters))
        self._columns = columns_of(self._numbers)
        self._gates = self._routes.gates[self._users][:, self._columns]
        self._loaded: GateScorer | None = None

    def scorer(self) -> GateScorer:
        """The stacked scoring model, loaded when first needed."""
        if self._loaded is None:
            layers = self.config.experts.last_layers
            self._loaded = GateScorer(
                self._base, self._general, self._experts, self.examples, layers, self._context.view
            )
        return self._loaded

    def scores(self, scratch: Path) -> dict[Rung, Scores]:
        """Scores of every rung of the config, in its order; LLM scores are kept in `scratch` as they finish."""
        wanted = [
            name
            for name in self.config.evaluation.rungs
            if name != "stacker" or self.config.training.prior == "stacker"
        ]
        found = self._floor_scores()
        if "zero_shot" in wanted:
            found["zero_shot"] = self._kept(scratch, "zero_shot", self._zero_shot)[0]
        if any(name.startswith("thinkrec") for name in wanted):
            general, experts = self._kept(scratch, "thinkrec", self._thinkrec)[:2]
            found["thinkrec_general_llm"], found["thinkrec_experts_llm"] = general, experts
            found["thinkrec_general"], found["thinkrec_experts"] = general + self._prior(), experts + self._prior()
        return {name: found[name] for name in wanted}

    def student_scores(self, scratch: Path) -> Scores:
        """(R,) the trained student's scores: each user's route, prior included; kept in `scratch` when finished."""
        return self._kept(scratch, "thinkrec", self._routed)[1] + self._prior()

    def reasons(self, indices: Sequence[int], says_yes: Sequence[bool]) -> list[str]:
        """What the student writes about the rows `rows[indices]` under its users' routes, as one batch."""
        scorer, chosen = self.scorer(), list(indices)
        made = scorer.make(self.test, self.rows[chosen], self.config.training.scored_prompt)
        scorer.gates.set(torch.tensor(self._gates[chosen], dtype=torch.float32))
        return explain_batch(scorer.model, self.tokenizer, made, says_yes, self.config.evaluation.explanation_tokens)

    def expert_figures(self, scratch: Path) -> dict[str, Any]:
        """Ablations of the routing, and figures by cluster and route; {} without experts or without `experts.ablations`."""
        if not (self._numbers and self.config.experts.ablations):
            return {}
        scores = self._kept(scratch, "thinkrec", self._thinkrec)
        figures = expert_figures(
            self._users,
            self.test.label[self.rows],
            {name: values + self._prior() for name, values in zip([*self._variants(), MERGED], scores, strict=True)},
            self._cluster[self._users],
            self._routes.route[self._users],
            self.config.evaluation.bootstrap,
            generator(self.config.seed, "bootstrap"),
        )
        return figures | {"prior": self.config.training.prior}

    def routing_figures(self) -> dict[str, Any]:
        """Whom the router sends where, over all users."""
        return routing_figures(self._routes, self._cluster >= 0)

    def explanations(self, scores: dict[Rung, Scores]) -> list[dict[str, Any]]:
        """Reasons for a seeded sample of test rows, liked and disliked in turn."""
        labels = self.test.label[self.rows]
        draw = generator(self.config.seed, "explanations")
        liked, disliked = (draw.permutation(np.flatnonzero(labels == value)).tolist() for value in (1, 0))
        order = [index for pair in zip(liked, disliked, strict=False) for index in pair]
        chosen = order[: self.config.evaluation.explanations]
        final = scores.get("thinkrec_experts", scores.get("thinkrec_general"))
        told = []
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            texts = self.reasons(part, [bool(final[index] > 0) if final is not None else True for index in part])
            told += [self._told(index, text, scores) for index, text in zip(part, texts, strict=True)]
        return told

    def _told(self, index: int, text: str, scores: dict[Rung, Scores]) -> dict[str, Any]:
        row = int(self.rows[index])
        items, labels = self.test.history(row, self.config.llm.max_history)
        titles = self.examples.prompts.items.titles
        user = int(self.test.user_idx[row])
        return {
            "user_id": self.test_table.column("user_id")[index].as_py(),
            "item_id": self.test_table.column("item_id")[index].as_py(),
            "title": titles[int(self.test.item_idx[row])],
            "label": int(self.test.label[row]),
            "history": [{"title": titles[i], "label": label} for i, label in zip(items, labels, strict=True)],
            "scores": {name: float(values[index]) for name, values in scores.items()},
            "route": str(self._routes.route[user]),
            "gates": self._gates[index].tolist(),
            "text": text,
        }

    def _floor_scores(self) -> dict[Rung, Scores]:
        train = self.examples.train
        rows = floors.TrainRows(train.user_idx, train.item_idx, train.label)
        users, items = self.test.user_idx[self.rows], self.test.item_idx[self.rows]
        return {
            "popularity": floors.popularity(rows, users, items),
            "item_mean": floors.item_mean(rows, users, items),
            "bias": fit_bias(
                self.config.ladder.bias,
                train.user_idx,
                train.item_idx,
                train.label,
                read_content(self._data),
                read_sizes(self._data),
            ).score(users, items),
            "encoder": self.test.encoder_logit[self.rows],
            "stacker": self.test.prior[self.rows],
        }

    def _prior(self) -> Scores:
        logits = self.test.prior[self.rows]
        return logits if self.config.training.prior != "none" else np.zeros_like(logits)

    def _zero_shot(self) -> Scores:
        """The untrained LM on text prompts: all gates zero."""
        return self.scorer().score(self.test, self.rows, "text", [np.zeros_like(self._gates)], shared=False)

    def _routed(self) -> Scores:
        """The general adapter alone, and each user's route."""
        settings = [_general(self._gates), self._gates]
        return self.scorer().score(self.test, self.rows, self.config.training.scored_prompt, settings)

    def _thinkrec(self) -> Scores:
        """The general adapter alone, each user's route, and the other variants of the routing if they are wanted."""
        if not (self.config.experts.ablations and self._numbers):
            return self._routed()
        prompt = self.config.training.scored_prompt
        scores = self.scorer().score(self.test, self.rows, prompt, list(self._variants().values()))
        merged = scores[1].copy()  # what is no fusion is merged exactly
        fused = np.flatnonzero(self._routes.route[self._users] == FUSION)
        if len(fused):
            gates = [self._gates[fused]]
            merged[fused] = self.scorer().score(self.test, self.rows[fused], prompt, gates, cross_terms=True)[0]
        return np.vstack([scores, merged])

    def _variants(self) -> dict[str, Scores]:
        """(R, A) gates of the test rows by variant; columns are the general adapter and the trained experts."""
        weights, routed = self._routes.weights[self._users], self._routes.gates[self._users]
        known = self._cluster[self._users] >= 0
        trained = np.isin(np.arange(weights.shape[1]), self._numbers)
        found = variant_gates(weights, routed, known, trained, self.config.experts.router)
        return {name: gates[:, self._columns] for name, gates in found.items()}

    def _kept(self, scratch: Path, name: str, compute: Callable[[], Scores]) -> Scores:
        path = scratch / f"{name}.npy"
        if path.is_file():
            return np.load(path, allow_pickle=False)
        values: Scores = compute()
        partial, content = scratch / f"{name}.partial.npy", io.BytesIO()
        np.save(content, values)  # into memory: to a file it hides why the disk refused
        partial.write_bytes(content.getvalue())
        replace_whole(partial, path)
        reached(f"evaluation/{name}.kept")
        return values


def _general(gates: Scores) -> Scores:
    return np.eye(gates.shape[1])[np.zeros(len(gates), dtype=int)]
