"""What batches of like length save: padded tokens, and CPU seconds of training steps.

    python benchmarks/length_pool.py --data PATH [--protocol labelled] [--batch 16] [--steps 8]

PATH is interaction data such as that of ml1m_cpu.py. padded: by batch size and `training.engine.length_pool`, the share of
tokens in a batch that are padding, over an epoch of ID prompts. ratio_samples: CPU seconds (user and system) of SmolLM2-135M's
training steps on batches as drawn over those on batches of `--pool` pools, per sample, the two in turn. Batches are cut by the
length of histories, as a training does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ml1m.inputs import make_data
from storage.assets import smollm2_folder
from storage.encoder_data import read_examples
from storage.language_model import load_base, load_tokenizer
from storage.rec_data import load_item_texts
from tasks.worker.torch_engine import TorchEngine
from tasks.worker.train import device_and_dtype
from thinkrec_core.config.training import EngineConfig
from thinkrec_core.recllm.adapters import add_lora, train_only
from thinkrec_core.recllm.answers import AnswerTokens
from thinkrec_core.recllm.examples import ExampleFactory, collate
from thinkrec_core.recllm.model import RecLLM, ScoreOptions
from thinkrec_core.recllm.objective import ObjectiveWeights, batch_loss
from thinkrec_core.recllm.plan import BatchPlan
from thinkrec_core.recllm.projector import Projector
from thinkrec_core.recllm.prompt import PromptBuilder, PromptOptions
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.signals import EncoderTables, Signals

SIZES, POOLS = (8, 16, 48), (1, 4, 16, 64)
VECTOR = 64


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", choices=("labelled", "liked"), default="labelled")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pool", type=int, default=EngineConfig().length_pool)
    parser.add_argument("--steps", type=int, default=8, help="of each of the two; 0 counts tokens only")
    given = parser.parse_args()
    pieces = load_tokenizer(smollm2_folder())
    with tempfile.TemporaryDirectory() as home:
        data = make_data(given.data, given.protocol, Path(home))
        rows = read_examples(data / "samples_train.parquet")
        texts = load_item_texts(data)
    samples = Samples(**vars(rows), encoder_logit=np.zeros(len(rows)))
    options = PromptOptions(max_history=10, max_tokens=512, history_labels=given.protocol == "labelled")
    prompts = PromptBuilder(pieces, texts, options)
    began = time.process_time()
    lengths, histories = prompts.lengths("id", samples), prompts.history_lengths("id", samples)
    print(f"lengths of {len(rows)} prompts: {time.process_time() - began:.1f} CPU seconds", file=sys.stderr)
    padded = {
        f"batch {size}": {pool: round(_padded(_plan(histories, size, pool), lengths), 4) for pool in POOLS}
        for size in SIZES
    }
    found = {"rows": len(rows), "mean_tokens": round(float(lengths.mean()), 1), "padded": padded}
    if given.steps:
        factory_of = _Maker(prompts, samples)
        plans = [_plan(histories, given.batch, pool) for pool in (1, given.pool)]
        seconds = factory_of.train(plans, given.steps)
        found["ratio_samples"] = round(seconds[0] / seconds[1], 3)
    print(json.dumps(found))


def _plan(lengths: np.ndarray, size: int, pool: int) -> BatchPlan:
    rows = range(len(lengths))
    return BatchPlan(7, "length_pool", rows, [], size, len(rows) // size, 0.0, {"recommendation": lengths}, pool)


def _padded(plan: BatchPlan, lengths: np.ndarray) -> float:
    """Share of tokens that are padding, over the steps of `plan`."""
    batches = [lengths[plan.rows(step)] for step in range(plan.steps)]
    return 1 - sum(map(np.sum, batches)) / sum(len(batch) * batch.max() for batch in batches)


class _Maker:
    """The embedded model on the samples, trained on the batches of a plan."""

    def __init__(self, prompts: PromptBuilder, samples: Samples) -> None:
        draw = np.random.default_rng(7)
        users, items = int(samples.user_idx.max()) + 1, len(prompts.items.titles)
        tables = EncoderTables(
            draw.normal(size=(users, VECTOR)).astype(np.float32),
            draw.normal(size=(items, VECTOR)).astype(np.float32),
            np.zeros(users, np.float32),
            np.zeros(items, np.float32),
        )
        signals = Signals(tables, samples, inputs="vectors_and_scalars")
        causal = load_base(smollm2_folder(), torch.float32)
        lm = add_lora(causal, 8, 16, 0.05, ("q_proj", "v_proj"), seed=1)
        train_only(lm, lora=True)
        projector = Projector(signals.size, causal.config.hidden_size, 2, 1, 0.1, torch.Generator().manual_seed(1))
        pieces = prompts.tokenizer
        answers = AnswerTokens(pieces.literal(" Yes")[0], pieces.literal(" No")[0], " Yes")
        self._factory = ExampleFactory(prompts, signals, answers, samples, False, 64)
        self._pad = pieces.pad_id
        model = RecLLM(lm, projector, answers, ScoreOptions()).train()
        self._engine = TorchEngine(model, 1, 1e-3, device_and_dtype("auto")[1], torch.device("cpu"))

    def train(self, plans: list[BatchPlan], steps: int) -> list[float]:
        """CPU seconds that `steps` steps of each plan take, spread over the epoch; a first step of each warms up."""
        seconds = [0.0] * len(plans)
        for number, step in enumerate([0, *np.linspace(0, plans[0].steps - 2, steps).astype(int).tolist()]):
            for place, plan in enumerate(plans):
                began = time.process_time()
                self._step(plan.rows(step))
                if number:
                    seconds[place] += time.process_time() - began
        return seconds

    def _step(self, rows: list[int]) -> None:
        examples = [self._factory.make(row, "id") for row in rows]
        sums = self._engine.losses(collate(examples, self._pad, 1))
        self._engine.backward(batch_loss(sums, "recommendation", ObjectiveWeights(), len(rows), len(rows)))
        self._engine.step({"lora": 1e-5, "projector": 1e-5})


if __name__ == "__main__":
    main()
