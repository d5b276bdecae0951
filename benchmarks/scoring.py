"""What sharing the beginning of prompts saves when many targets of one user are scored.

    python benchmarks/scoring.py [--targets 16] [--repeats 7]

SmolLM2-135M in fp32 with a random rank-8 adapter on prompts of about 175 tokens: user and target soft tokens, 10 history items
with made-up titles. ratio_prefix: CPU seconds of scoring each target's whole prompt one by one over those of scoring them as a tree
below their shared beginning; ratio_batched: those of whole prompts in one batch over the same; ratio_kept: those of a first forward
whose keys and values the targets then use, as for bodies that take no trees. Variants take turns, figures are ratios of medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from storage.assets import smollm2_folder
from storage.language_model import load_base, load_tokenizer
from thinkrec_core.recllm.adapters import add_lora
from thinkrec_core.recllm.answers import AnswerTokens
from thinkrec_core.recllm.examples import Example, ExampleFactory
from thinkrec_core.recllm.model import RecLLM, ScoreOptions
from thinkrec_core.recllm.prefix import score_targets, shared_length
from thinkrec_core.recllm.projector import Projector
from thinkrec_core.recllm.prompt import ItemTexts, PromptBuilder, PromptOptions
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.scoring import score_examples
from thinkrec_core.recllm.sharing import score_shared
from thinkrec_core.recllm.signals import EncoderTables, Signals

HISTORY, SIZE = 10, 64
WORDS = [
    "River",
    "Night",
    "Garden",
    "Silver",
    "Letter",
    "Winter",
    "Stranger",
    "House",
    "Summer",
    "Paper",
    "Mountain",
    "Shadow",
    "Ocean",
    "Glass",
    "Orchard",
]
GENRES = ("Drama, Comedy", "Action, Thriller, War", "Romance", "Documentary, Musical")


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    model, examples, pad = made_up(given.targets)
    variants: dict[str, Callable[[], np.ndarray]] = {
        "one_by_one": lambda: np.array([score_examples(model, [example], pad, 1)[0] for example in examples]),
        "batched": lambda: score_examples(model, examples, pad, given.targets),
        "shared": lambda: score_shared(model, examples, pad, given.targets),
        "kept": lambda: score_targets(model, examples, pad, given.targets),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    scores = {}
    for repeat in range(given.repeats + 1):
        for name, run in variants.items():
            start = time.process_time()
            scores[name] = run()
            if repeat:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    lengths = [len(example.prompt.ids) for example in examples]
    shared = shared_length(examples, model.projector.n_tokens)
    print(f"prompts of {min(lengths)} to {max(lengths)} tokens, {shared} of them shared", file=sys.stderr)
    print({name: round(value, 4) for name, value in median.items()}, file=sys.stderr)
    print(
        json.dumps(
            {
                "ratio_prefix": round(median["one_by_one"] / median["shared"], 2),
                "ratio_batched": round(median["batched"] / median["shared"], 2),
                "ratio_kept": round(median["kept"] / median["shared"], 2),
                "max_difference": max(
                    float(np.abs(scores[name] - scores["one_by_one"]).max()) for name in ("shared", "kept")
                ),
                "targets": given.targets,
            }
        )
    )


def made_up(targets: int) -> tuple[RecLLM, list[Example], int]:
    """A model, prompts of one user with one target each, and the padding id."""
    draw = np.random.default_rng(7)
    items = HISTORY + targets
    titles = [f"The {' '.join(draw.choice(WORDS, 2, replace=False))} ({1950 + item})" for item in range(items)]
    texts = ItemTexts(["", *titles], ["", *(GENRES[item % len(GENRES)] for item in range(items))])
    vectors = draw.normal(size=(items + 1, SIZE)).astype(np.float32)
    tables = EncoderTables(vectors[:3], vectors, np.zeros(3, np.float32), np.zeros(items + 1, np.float32))
    history = np.arange(1, HISTORY + 1)
    samples = Samples(
        user_idx=np.ones(targets, np.int64),
        item_idx=np.arange(HISTORY + 1, items + 1),
        label=np.zeros(targets, np.int64),
        history_offsets=np.arange(targets + 1) * HISTORY,
        history_items=np.tile(history, targets),
        history_labels=np.tile(history % 2, targets),
        encoder_logit=draw.normal(size=targets),
    )
    folder = smollm2_folder()
    tokenizer, causal = load_tokenizer(folder), load_base(folder, torch.float32)
    lm = add_lora(causal, 8, 16, 0.0, ("q_proj", "v_proj"), seed=1)
    signals = Signals(tables, samples, inputs="vectors_and_scalars")
    projector = Projector(signals.size, causal.config.hidden_size, 10, 1, 0.1, torch.Generator().manual_seed(1))
    answers = AnswerTokens(tokenizer.literal(" Yes")[0], tokenizer.literal(" No")[0], " Yes")
    prompts = PromptBuilder(tokenizer, texts, PromptOptions(max_history=HISTORY, max_tokens=512))
    factory = ExampleFactory(prompts, signals, answers, samples, False, 64)
    model = RecLLM(lm, projector, answers, ScoreOptions()).eval()
    return model, [factory.make(row, "id") for row in range(targets)], tokenizer.pad_id


if __name__ == "__main__":
    main()
