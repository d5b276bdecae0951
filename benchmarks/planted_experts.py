"""Do experts find and use planted tastes? Synthetic data with taste clusters, and a small LM that is trained from scratch.

    python benchmarks/planted_experts.py [--general-steps 80] [--expert-steps 480] [--history 0] [--seed 0]

The stages are those of a run: data, encoder, clusters, general adapter, experts. The base LM is a Llama of three layers whose
weights are all trained here, on text prompts that show the target alone, so that a user's taste has to be in the weights: what
an expert is for. With `--history 1` the prompt also shows the newest liked item, which tells a single adapter of the taste too.
adjusted_rand compares the experts that users are routed to
with the planted clusters. difference is the AUC on all test rows of the routed experts minus that of a general adapter that
got as many steps as general adapter and experts together, with the paired 95% interval over users.

Experts adapt all three layers, as the general adapter does: the genre of the target has to reach the answer position, and what
carries it there is the attention of the first layers. With the last two alone, and a third of the steps, three seeds gave
differences of .001, .002 and .010, all with 0 in their intervals.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from storage.rec_data import load_gates, load_routes, trained_clusters
from storage.schemas import CLUSTERS, REFLECTIONS
from storage.store import ArtifactRef, ArtifactStore
from storage.synthetic_folder import write_synthetic
from storage.tables import read_table, write_table
from storage.tracking import NullTracker
from tasks.cluster_users import cluster_users
from tasks.gate_scorer import GateScorer
from tasks.prepare_data import prepare_data
from tasks.stage import RunContext
from tasks.train_encoder import train_encoder
from tasks.train_llm import train_expert, train_general
from tasks.view import View
from tasks.worker.build import Examples
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.evaluation.ladder import evaluate_ladder
from thinkrec_core.recllm.answers import AnswerTokens
from thinkrec_core.recllm.examples import collate
from thinkrec_core.recllm.model import RecLLM, ScoreOptions
from thinkrec_core.recllm.projector import Projector
from thinkrec_core.seeds import derived_seed, generator
from thinkrec_core.synthetic import SyntheticSpec

PLANTED = 3
PRETRAINING_STEPS, BATCH = 150, 32
RATES = {"learning_rate": 5e-3, "min_learning_rate": 5e-4, "warmup_learning_rate": 5e-4, "warmup_steps": 10}


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--general-steps", type=int, default=80)
    parser.add_argument("--expert-steps", type=int, default=480)
    parser.add_argument("--history", type=int, default=0, help="liked items that a prompt shows")
    parser.add_argument("--seed", type=int, default=0, help="of data, base LM and trainings")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        steps = given.general_steps, given.expert_steps
        print(json.dumps(planted(Path(name), *steps, given.history, given.seed)))


def planted(
    root: Path, general_steps: int, expert_steps: int, history: int, seed: int, users: int = 240, rows: int = 9_600
) -> dict[str, Any]:
    """Figures of one comparison; everything is written below `root`."""
    spec = SyntheticSpec(users=users, items=200, rows=rows, clusters=PLANTED, drift=0.0, exposure=0.5, seed=3 + seed)
    write_synthetic(spec, root / "source")
    store = ArtifactStore(root / "store")
    context = RunContext(configuration(root, general_steps, expert_steps, history, seed), store, NullTracker(), View())
    data = _ref(prepare_data.fn(context))
    encoder = _ref(train_encoder.fn(context, data))
    make_model(root / "model", context.config, store.path(data), store.path(encoder))
    _say("model")
    reflections = no_reflections(store)
    clusters = _ref(cluster_users.fn(context, data, encoder))
    numbers = trained_clusters(store.path(clusters))
    general = _ref(train_general.fn(context, data, encoder, reflections))
    _say("general")
    experts = [
        _ref(train_expert.fn(context, data, encoder, reflections, general, clusters, number)) for number in numbers
    ]
    _say("experts")
    total = general_steps + len(numbers) * expert_steps
    longer = RunContext(configuration(root, total, expert_steps, history, seed), store, NullTracker(), View())
    rival = _ref(train_general.fn(longer, data, encoder, reflections))
    _say("rival")

    examples = _examples(context.config, root / "model", store.path(data), store.path(encoder))
    test = examples.samples("test")
    gates = load_gates(store.path(clusters), context.config.experts.router, numbers)[test.user_idx]
    last, every = context.config.experts.last_layers, np.arange(len(test))
    ours = GateScorer(root / "model", store.path(general), [store.path(ref) for ref in experts], examples, last, View())
    general_scores, routed = ours.score(test, every, "text", [np.eye(gates.shape[1])[np.zeros(len(test), int)], gates])
    alone = GateScorer(root / "model", store.path(rival), [], examples, last, View())
    rival_scores = alone.score(test, every, "text", [np.ones((len(test), 1))])[0]
    scores = {"rival": rival_scores, "general": general_scores, "experts": routed}
    warm = np.ones(len(test), dtype=bool)
    rungs = evaluate_ladder(test.user_idx, test.label, warm, scores, "rival", 1000, generator(7, "planted"))["rungs"]
    versus = rungs["experts"]["versus_floor"]["auc"]
    return {
        "adjusted_rand": routed_like_planted(root / "source", store.path(data), store.path(clusters), context.config),
        "auc_experts": rungs["experts"]["auc"],
        "auc_general_same_steps": rungs["rival"]["auc"],
        "auc_general_before": rungs["general"]["auc"],
        "difference": versus["difference"],
        "interval": versus["ci"],
        "history": history,
        "seed": seed,
        "steps": total,
        "test_rows": len(test),
    }


def configuration(root: Path, general_steps: int, expert_steps: int, history: int, seed: int) -> ThinkRecConfig:
    """Of one training; text prompts, so that nothing but the adapter knows a user's taste beyond the shown history."""
    engine = {"backend": "torch", "threads": 1, "checkpoint_every": 1000}
    steps = {**RATES, "batch_size": BATCH, "validate_every": 40, "patience": 100}
    return ThinkRecConfig.model_validate(
        {
            "seed": 7 + seed,
            "data": {"source": str(root / "source"), "history": "liked"},
            "encoder": {"embedding_size": 8, "epochs": 30, "learning_rate": 1e-2},
            "llm": {
                "model": str(root / "model"),
                "dtype": "fp32",
                "max_history": history,
                "lora": {"rank": 8, "target_modules": ["q_proj", "v_proj", "o_proj", "down_proj"]},
            },
            "training": {
                "schedule": "text",
                "select_by": "auc",
                "valid_rows": 2000,
                "engine": engine,
                "steps": general_steps,
                **steps,
            },
            "experts": {
                "count": PLANTED,
                "prompt": "text",
                "last_layers": 3,
                "clustering": "kmeans",
                "training": {"steps": expert_steps, **steps},
            },
        }
    )


def make_model(folder: Path, config: ThinkRecConfig, data: Path, encoder: Path) -> None:
    """A small Llama with a tokenizer of its own, all weights trained on text prompts and their labels."""
    texts = read_items(data)
    tokenizer = make_tokenizer(texts)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(derived_seed(config.seed, "planted model"))
    causal = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
        )
    )
    causal.save_pretrained(folder)
    examples = _examples(config, folder, data, encoder)
    yes, no = (examples.tokenizer.literal(word)[0] for word in (" Yes", " No"))
    answers = AnswerTokens(yes, no, " Yes")
    model = RecLLM(causal, Projector(examples.signals.size, 64, 1, 1), answers, ScoreOptions())
    factory = examples.factory(examples.train, answers, with_prior=False)
    optimiser = torch.optim.AdamW(causal.parameters(), lr=3e-3)
    draw = generator(1, "pretraining")
    head = causal.get_output_embeddings().weight
    for _ in range(PRETRAINING_STEPS):
        made = [factory.make(int(row), "text") for row in draw.integers(0, len(examples.train), BATCH)]
        batch = collate(made, examples.tokenizer.pad_id, 1, with_answers=False)
        hidden_BTH = model.hidden(batch)
        last_BH = hidden_BTH[torch.arange(len(made)), batch.answer_start_B]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(last_BH @ head[yes], batch.label_B)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    causal.save_pretrained(folder)


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on `texts` and the words of the prompt."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompt = (
        "A user has rated these items, oldest first: none so far. Answer Yes or No: will this user like this?\nAnswer:"
    )
    core.train_from_iterator([*texts, *[f"{prompt} Yes No (liked) (disliked)"] * 50], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def read_items(data: Path) -> list[str]:
    """Title and keywords of every item, as the prompt shows them."""
    table = pq.read_table(data / "items.parquet")
    pairs = zip(table.column("title").to_pylist(), table.column("keywords").to_pylist(), strict=True)
    return [f' "{title} ({words})"' for title, words in pairs]


def no_reflections(store: ArtifactStore) -> ArtifactRef:
    """A reflections artifact without rows: every batch is a recommendation batch."""
    with store.locked("reflections", "none"):
        draft = store.draft("reflections", "none")
        write_table(draft.path / "reflections.parquet", {name: [] for name in REFLECTIONS.names}, REFLECTIONS)
        return store.publish(draft, "reflections", "none", {})


def routed_like_planted(source: Path, data: Path, clusters: Path, config: ThinkRecConfig) -> float:
    """Adjusted Rand index between the expert with the largest gate and the planted cluster, over users that are routed to one."""
    from sklearn.metrics import adjusted_rand_score

    truth = pq.read_table(source / "truth" / "users.parquet").to_pydict()
    planted_of = {str(user): cluster for user, cluster in zip(truth["user_id"], truth["cluster"], strict=True)}
    table = pq.read_table(data / "interactions.parquet", columns=["user_id", "user_idx"]).to_pydict()
    raw = dict(zip(table["user_idx"], table["user_id"], strict=True))
    known = read_table(clusters / "clusters.parquet", CLUSTERS).to_pydict()
    users = [user for user, cluster in zip(known["user_idx"], known["cluster"], strict=True) if cluster >= 0]
    routed = load_routes(clusters, config.experts.router).gates[users].argmax(axis=1)
    return round(float(adjusted_rand_score([planted_of[raw[user]] for user in users], routed)), 4)


def _examples(config: ThinkRecConfig, model: Path, data: Path, encoder: Path) -> Examples:
    from storage.language_model import load_tokenizer

    return Examples(config, data, encoder, load_tokenizer(model))


def _ref(result: Any) -> ArtifactRef:
    return result if isinstance(result, ArtifactRef) else result.data


def _say(text: str) -> None:
    print(f"{text} ready", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
