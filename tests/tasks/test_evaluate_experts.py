"""The evaluation and the choice of N on a tiny recommender with experts: every row gets what its gates say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from storage.language_model import load_stacked, load_tokenizer, save_trained
from storage.rec_data import load_gates, trained_clusters
from storage.store import ArtifactRef, ArtifactStore
from storage.tracking import NullTracker
from tasks.choose_experts import Candidate, choose_experts
from tasks.cluster_users import cluster_users
from tasks.evaluate import evaluate
from tasks.stage import RunContext
from tasks.view import View
from tasks.worker.build import Examples
from tests.tiny_model import one_thread, randomise_lora, tiny_causal, write_tiny_model
from tests.tiny_recllm import tiny_recllm
from tests.tiny_world import USERS, tiny_world, write_world
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.recllm.adapters import add_lora, layer_of
from thinkrec_core.recllm.scoring import score_examples

__all__ = ["one_thread"]

LAST = 2


class Made:
    """A tiny run up to its experts, whose adapters are random in the last two layers."""

    def __init__(self, root: Path) -> None:
        self.store = ArtifactStore(root / "store")
        model = write_tiny_model(root / "model")
        values = self.values = {
            "llm": {"model": str(model), "lora": {"rank": 4, "alpha": 8}, "max_prompt_tokens": 512},
            "experts": {"last_layers": LAST, "min_rows": 4, "valid_rows": None, "router": {"temperature": 0.5}},
            "evaluation": {
                "bootstrap": 20,
                "explanations": 0,
                "rungs": ["bias", "thinkrec_general_llm", "thinkrec_experts_llm"],
            },
        }
        self.context = RunContext(ThinkRecConfig.model_validate(values), self.store, NullTracker(), View())
        folders = write_world(root / "inputs", tiny_world(train=120, valid=40))
        for folder, name in (("data", "samples_{}.parquet"), ("encoder", "scores_{}.parquet")):
            (folders[folder] / name.format("test")).write_bytes((folders[folder] / name.format("valid")).read_bytes())
        self.data = self.publish("data", lambda to: self._copy(folders["data"], to))
        self.encoder = self.publish("encoder", lambda to: self._copy(folders["encoder"], to))
        self.general = self.adapter(0)

    def publish(self, stage: str, write: Callable[[Path], object], key: str = "k") -> ArtifactRef:
        if (known := self.store.find(stage, key)) is not None:
            return known
        with self.store.locked(stage, key):
            draft = self.store.draft(stage, key)
            write(draft.path)
            return self.store.publish(draft, stage, key, {})

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        for path in source.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        (target / "statistics.json").write_text(json.dumps({"users": 12}))

    def adapter(self, number: int) -> ArtifactRef:
        """General adapter for 0, else an expert that differs from it above layer 2."""
        tiny = tiny_recllm()
        lm = add_lora(tiny_causal(), 4, 8, 0.0, ("q_proj", "v_proj"), seed=1)
        randomise_lora(lm, 1, scale=0.2)
        own = add_lora(tiny_causal(), 4, 8, 0.0, ("q_proj", "v_proj"), seed=1)
        randomise_lora(own, 1 + number, scale=0.2)
        with torch.no_grad():
            for (name, weight), other in zip(lm.named_parameters(), own.parameters(), strict=True):
                if "lora_" in name and layer_of(name) >= 4 - LAST:
                    weight.copy_(other)
        projector = tiny.model.projector
        settings = {
            "answers": vars(tiny.model.answers),
            "score": vars(tiny.model.options),
            "slot_input_size": tiny.signals.size,
            "hidden_size": projector.hidden_size,
            "multiplier": 3,
            "n_tokens": 1,
        }
        stage = "expert" if number else "general"
        return self.publish(stage, lambda to: save_trained(to, lm, projector, settings), f"k{number}")

    def clusters(self, count: int, context: RunContext | None = None) -> ArtifactRef:
        return ref(cluster_users.fn(context or self.context, self.data, self.encoder, count))

    def with_router(self, **router: Any) -> RunContext:
        experts = {**self.values["experts"], "router": router}
        return replace(
            self.context, config=ThinkRecConfig.model_validate({**self.values, "experts": experts}), results={}
        )


def ref(result: Any) -> ArtifactRef:
    return result if isinstance(result, ArtifactRef) else result.data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    torch.set_num_threads(1)
    return Made(tmp_path_factory.mktemp("evaluate"))


def test_every_row_is_scored_under_its_own_gates_and_the_variants_differ(made: Made) -> None:
    clusters, path = made.clusters(2), made.store.path
    numbers = trained_clusters(path(clusters))
    experts = tuple(made.adapter(1 + number) for number in numbers)
    found = path(ref(evaluate.fn(made.context, made.data, made.encoder, made.general, clusters, experts)))

    table = _predictions(found)
    tiny, users = tiny_recllm(), np.array([int(user) for user in table["user_id"]])
    model, gates = load_stacked(Path(made.context.config.llm.model), path(made.general), [path(e) for e in experts])
    own = torch.tensor(
        load_gates(path(clusters), made.context.config.experts.router, numbers)[users], dtype=torch.float32
    )
    factory = _valid_factory(made)
    scores = score_examples(
        model,
        [factory.make(row, "id") for row in range(len(users))],
        tiny.pieces.pad_id,
        5,
        lambda rows: gates.set(own[rows]),
    )
    assert table["score_thinkrec_experts_llm"] == pytest.approx(scores, abs=1e-4)
    assert np.abs(np.array(table["score_thinkrec_general_llm"]) - scores).max() > 1e-2

    figures = json.loads((found / "experts.json").read_text())
    assert list(figures["variants"]) == ["general", "routed", "single", "fusion", "soft", "merged"]
    assert figures["variants"]["soft"]["changed"] > 0
    assert sum(part["rows"] for part in figures["clusters"].values()) == len(users)
    assert sum(part["rows"] for part in figures["routes"].values()) == len(users)
    routing = json.loads((found / "routing.json").read_text())
    assert (sum(routing["routes"].values()), sum(routing["mean_gates"])) == (USERS, pytest.approx(1))


def test_another_router_scores_again_on_the_same_clusters(made: Made) -> None:
    clusters = made.clusters(2)
    numbers = trained_clusters(made.store.path(clusters))
    experts, found = tuple(made.adapter(1 + number) for number in numbers), []
    for mode in ("soft", "hard"):
        other = made.with_router(mode=mode)
        assert made.clusters(2, other) == clusters
        evaluation = ref(evaluate.fn(other, made.data, made.encoder, made.general, clusters, experts))
        found.append(json.loads((made.store.path(evaluation) / "routing.json").read_text())["routes"])
        candidates = [Candidate(2, clusters, experts)]
        choose_experts.fn(other, made.data, made.encoder, made.general, candidates)
        assert {name: result.status for name, result in other.results.items()} == {
            "clusters": "cached",
            "evaluation": "ran",
            "choice": "ran",
        }
    assert found == [{"general": 0, "single": 0, "fusion": USERS}, {"general": 0, "single": USERS, "fusion": 0}]


def test_without_experts_there_is_nothing_to_compare(made: Made) -> None:
    found = made.store.path(ref(evaluate.fn(made.context, made.data, made.encoder, made.general, made.clusters(1), ())))
    assert json.loads((found / "experts.json").read_text()) == {}
    table = _predictions(found)
    assert table["score_thinkrec_general_llm"] == table["score_thinkrec_experts_llm"]


def test_the_number_of_experts_with_the_best_valid_score_is_chosen(made: Made) -> None:
    candidates = []
    for count in (1, 2, 3):
        clusters = made.clusters(count)
        numbers = trained_clusters(made.store.path(clusters))
        candidates.append(Candidate(count, clusters, tuple(made.adapter(1 + number) for number in numbers)))
    folder = made.store.path(ref(choose_experts.fn(made.context, made.data, made.encoder, made.general, candidates)))
    choice = json.loads((folder / "choice.json").read_text())
    scores = {int(count): row["score"] for count, row in choice["by_count"].items()}
    assert choice["count"] == max(scores, key=lambda count: (scores[count], -count))
    assert len({row["auc"] for row in choice["by_count"].values()}) > 1
    assert choice["by_count"]["1"]["versus_floor"]["auc"]["difference"] == 0
    choose_experts.fn(made.context, made.data, made.encoder, made.general, candidates)
    assert made.context.results["choice"].status == "cached"


def _predictions(folder: Path) -> dict[str, Any]:
    return pq.read_table(folder / "predictions.parquet").to_pydict()


def _valid_factory(made: Made) -> Any:
    path = made.store.path
    config = made.context.config
    examples = Examples(config, path(made.data), path(made.encoder), load_tokenizer(Path(config.llm.model)))
    return examples.factory(examples.samples("valid"), tiny_recllm().model.answers, with_prior=False)
