"""What the training engine saves against the published recipe, and what stage 3 saves by keeping hidden states.

    python benchmarks/training.py [--samples 24] [--tokens 175] [--epochs 3] [--model FOLDER]

SmolLM2-135M with rank-8 adapters on random prompts of --tokens tokens; seconds of forward, backward and optimiser step per
sample (of the CPU, user and system; with a GPU those of the clock), variants in turn.

`published` is the recipe as published, on a CPU: the LM in fp32, one sample at a time, logits of the whole vocabulary at
every prompt position. `batched` is the same in batches of 8. `same` is `batched` in the type that ours uses: bf16 where the
CPU computes it (the type is printed), else fp32, and then ratio_same_dtype is ratio_vs_batched. `ours` computes the head
where an answer is read. Stage 3 trains the last 8 of 30 layers for --epochs epochs: ratio_stage3 is all layers over the
kept hidden states, the pass that computes and writes them included; ratio_stage3_recompute is the last 8 layers without the
cache over the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from storage.assets import smollm2_folder
from storage.language_model import load_base, load_tokenizer
from tasks.worker.hidden_cache import HiddenCache
from tasks.worker.parameters import cast_frozen
from tasks.worker.torch_engine import TorchEngine
from tasks.worker.train import device_and_dtype
from thinkrec_core.recllm.adapters import add_lora, train_only
from thinkrec_core.recllm.answers import Answer, AnswerTokens
from thinkrec_core.recllm.examples import Example, collate
from thinkrec_core.recllm.model import RecLLM, ScoreOptions
from thinkrec_core.recllm.objective import ObjectiveWeights, batch_loss
from thinkrec_core.recllm.projector import Projector
from thinkrec_core.recllm.prompt import Prompt, Slot

BATCH, LAST, FEATURES, LIMIT_GB = 8, 8, 16, 20.0
RATES = {"lora": 1e-5, "projector": 1e-5}


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=24, help="a multiple of 8")
    parser.add_argument("--tokens", type=int, default=175)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--model", type=Path, help="folder of the base model, for machines that cannot fetch it")
    given = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", "0")
    device, dtype = device_and_dtype("auto")
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    bench = Bench(given.model or smollm2_folder(), device, given.samples, given.tokens, given.epochs)
    variants: dict[str, Callable[[], None]] = {
        "published": lambda: bench.published(1, torch.float32),
        "batched": lambda: bench.published(BATCH, torch.float32),
        "same": lambda: bench.published(BATCH, dtype),
        "ours": lambda: bench.ours(dtype, 0, 1, None),
        "all_layers": lambda: bench.ours(dtype, 0, given.epochs, None),
        "recompute": lambda: bench.ours(dtype, bench.depth, given.epochs, None),
        "stage3": lambda: bench.ours(dtype, bench.depth, given.epochs, LIMIT_GB),
    }
    if dtype == torch.float32:
        del variants["same"]
    best: dict[str, float] = {}
    bench.ours(dtype, 0, 1, None)  # warms up
    for _ in range(given.repeats):
        for name, run in variants.items():
            start = clock()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            spent = clock() - start
            best[name] = min(spent, best.get(name, spent))
            print(f"{name}: {spent:.2f} seconds", file=sys.stderr, flush=True)
    print(f"{given.samples} samples, type of ours: {dtype}", file=sys.stderr)
    ratios = {
        "ratio_vs_published": best["published"] / best["ours"],
        "ratio_vs_batched": best["batched"] / best["ours"],
        "ratio_same_dtype": best.get("same", best["batched"]) / best["ours"],
        "ratio_stage3": best["all_layers"] / best["stage3"],
        "ratio_stage3_recompute": best["recompute"] / best["stage3"],
    }
    print(json.dumps({name: round(value, 2) for name, value in ratios.items()}))


class Bench:
    """One model and its samples, trained in different ways."""

    def __init__(self, folder: Path, device: torch.device, samples: int, tokens: int, epochs: int) -> None:
        self._device = device
        pieces, causal = load_tokenizer(folder), load_base(folder, torch.float32)
        self._pad = pieces.pad_id
        self.depth = causal.config.num_hidden_layers - LAST
        self._lm: PeftModel = add_lora(causal, 8, 16, 0.05, ("q_proj", "v_proj"), seed=1)
        projector = Projector(FEATURES, causal.config.hidden_size, 8, 1, 0.1, torch.Generator().manual_seed(1))
        answers = AnswerTokens(pieces.literal(" Yes")[0], pieces.literal(" No")[0], " Yes")
        self._model = RecLLM(self._lm, projector, answers, ScoreOptions())
        draw = np.random.default_rng(7)
        self._examples = [self._example(row, tokens, answers, draw) for row in range(samples)]

    def published(self, batch: int, dtype: torch.dtype) -> None:
        """One epoch with logits of the whole vocabulary at every position; BCE on the Yes logit, cross-entropy on the answer."""
        engine = self._engine(dtype, 0)
        self._model.causal.set_attn_implementation("sdpa")
        for examples in self._batches(batch):
            made = collate(examples, self._pad, 1).to(self._device)
            embeds = self._model.embed(made)
            logits_BTV = self._lm(inputs_embeds=embeds, attention_mask=made.attention_mask_BT, use_cache=False).logits
            last_BV = logits_BTV[torch.arange(len(examples), device=self._device), made.answer_start_B].float()
            score_B = last_BV[:, self._model.answers.yes_id]
            bce = torch.nn.functional.binary_cross_entropy_with_logits(score_B, made.label_B)
            # As in transformers: labels as wide as the prompt, masked but for the answer.
            labels_BT = torch.full_like(made.input_ids_BT, -100)
            labels_BT[torch.arange(len(examples), device=self._device), made.answer_start_B] = made.targets_BL[:, 0]
            ce = torch.nn.functional.cross_entropy(logits_BTV.float().flatten(0, 1), labels_BT.flatten())
            engine.backward(0.9 * bce + 0.1 * ce)
            engine.step(RATES)
        engine.close()

    def ours(self, dtype: torch.dtype, depth: int, epochs: int, cache_gb: float | None) -> None:
        """`epochs` epochs of the layers from `depth` on; with `cache_gb` the hidden states below are kept on disk."""
        engine = self._engine(dtype, depth)
        with tempfile.TemporaryDirectory() as folder:
            lower = None if cache_gb is None else HiddenCache(Path(folder), self._model, depth, self._pad, cache_gb)
            for _ in range(epochs):
                for examples in self._batches(BATCH):
                    made = collate(examples, self._pad, 1).to(self._device)
                    if lower is not None:
                        made = replace(made, lower_BTH=lower(examples, "recommendation", made), lower_depth=depth)
                    sums = engine.losses(made)
                    share = batch_loss(sums, "recommendation", ObjectiveWeights(), len(examples), len(examples))
                    engine.backward(share)
                    engine.step(RATES)
        engine.close()

    def _engine(self, dtype: torch.dtype, depth: int) -> TorchEngine:
        cast_frozen(self._model, torch.float32)
        train_only(self._lm, lora=True, from_layer=depth)
        self._model.projector.requires_grad_(depth == 0)
        engine = TorchEngine(self._model, 1, 1e-3, dtype, self._device)
        self._model.train()
        for layer in self._model.causal.base_model.layers[:depth]:
            layer.eval()
        return engine

    def _batches(self, size: int) -> list[list[Example]]:
        return [self._examples[start : start + size] for start in range(0, len(self._examples), size)]

    @staticmethod
    def _example(row: int, tokens: int, answers: AnswerTokens, draw: np.random.Generator) -> Example:
        ids = tuple(draw.integers(100, 40_000, tokens).tolist())
        slots = (Slot(2, "user", 1), Slot(tokens - 20, "target", 1))
        inputs = draw.normal(size=(2, FEATURES)).astype(np.float32)
        label = row % 2
        return Example(Prompt(ids, slots), inputs, label, 0.0, Answer((answers.verdict(label),), False), row, 1)


if __name__ == "__main__":
    main()
