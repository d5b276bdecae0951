"""What mixing experts per sample costs: one batched forward against a single adapter, and scoring against merging user by user.

    python benchmarks/experts.py [--repeats 3] [--dtype fp32|bf16|both] [--users 16] [--device cuda --model FOLDER]

SmolLM2-135M on prompts of 80 to 180 tokens as the project writes them (made-up titles), and random adapters of which every one
differs from every other on every layer: the dear case, since experts that share the lower layers with the general adapter keep one
copy there. Both sides have body and adapters in the same type; `both` is fp32 and, where the CPU computes it, bf16.

overhead_N: seconds of the stacked forward of 16 users with N experts and gates of their own, over those of the forward with a
single adapter as PEFT runs it; both end at the last hidden states, since the head is the same.

Against the published way of scoring the same rows with 8 experts, each to its end, in seconds:

  published  rows two by two, in the order of users: where the first user of two is another one, `add_weighted_adapter` ("linear")
             over the 8 adapters, and the adapter of the user before is deleted; a forward with the answer appended and left
             padding, full-vocabulary logits at every position and their cross-entropy
  ours       `score_gated`, as the evaluation calls it: prompts of one user stand as a tree, trees of many users in one row without
             padding, each with gates of its own, the answer's logit from one row of the head

  ratio_vs_published  16 users with 8 test rows each, cut as those of ML-1M where histories hold likes: 4, 2, 1 and 1 of them behind
                      one history, or 5, 2 and 1, which is 2.3 on average as in the data (1.4 where histories hold dislikes too)
  ratio_ladder        the same rows under two settings, the general adapter and the experts, as the ladder needs both, with
                      experts that differ in the last 8 layers only, as the project trains them: ours computes the layers below
                      once, the published way scores all rows twice
  ratio_candidates    16 users with 8 candidates each behind one history, as a re-ranking has them
  ratio_one_row       16 users with one row each: nothing is shared, and the published way merges for every two rows

Figures in bf16 have the same names with _bf16. Variants take turns, and each figure is a ratio of medians; the parts, and the
largest difference of our scores from those of whole prompts one by one, are on stderr.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Before other packages: torch and MKL read the environment when they load.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.expert_rows import SETS, Bench, Rows
from storage.assets import smollm2_folder
from thinkrec_core.recllm.scoring import score_examples

COUNTS = (2, 4, 8)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NAMES = {"test_rows": "ratio_vs_published", "candidates": "ratio_candidates", "one_row": "ratio_one_row"}


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--dtype", choices=[*DTYPES, "both"], default="both")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: seconds of this process, busy machine"
    )
    parser.add_argument("--model", type=Path, help="folder of the base model, for machines that cannot fetch it")
    given = parser.parse_args()
    computes = given.device != "cpu" or bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    dtypes = [given.dtype] if given.dtype != "both" else ["fp32", *(["bf16"] if computes else [])]
    clock = time.perf_counter if given.clock == "wall" else time.process_time
    result: dict[str, float] = {}
    for name in dtypes:
        bench = Bench(
            given.model or smollm2_folder(), torch.device(given.device), DTYPES[name], given.users, max(COUNTS)
        )
        found = measure(bench, given.repeats, clock)
        result |= {key if name == dtypes[0] else f"{key}_{name}": value for key, value in found.items()}
        del bench
        gc.collect()
    print(json.dumps(result | {"dtype": dtypes[0], "threads": torch.get_num_threads()}))


def measure(bench: Bench, repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """All ratios in the type of `bench`."""
    rows = {name: bench.rows(cuts) for name, cuts in SETS.items()}
    median = medians(bench, lambda part: variants(bench, part), rows, repeats, clock)
    print({name: round(value, 3) for name, value in median.items()}, file=sys.stderr)
    for name, each in rows.items():
        lengths = [len(example.prompt.ids) for example in each.examples]
        told = f"{name}: {len(lengths)} prompts of {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all"
        print(f"{told}, largest difference {difference(bench, each):.2g}", file=sys.stderr, flush=True)
    result = {f"overhead_{count}": round(median[f"stacked_{count}"] / median["single"], 3) for count in COUNTS}
    for name, key in NAMES.items():
        result[key] = round(median[f"published_{name}"] / median[f"ours_{name}"], 2)
    both = median["published_test_rows"] + median["published_general"]
    return result | {"ratio_ladder": round(both / median["ours_ladder"], 2)}


def variants(bench: Bench, rows: dict[str, Rows]) -> dict[str, Callable[[], object]]:
    """What takes turns, by name."""
    mixed, tested = rows["one_row"], rows["test_rows"]
    found: dict[str, Callable[[], object]] = {
        "single": lambda: bench.forward(bench.peft, mixed),
        "merges": lambda: bench.merges(mixed),
        **{f"stacked_{count}": bench.stacked(mixed, count) for count in COUNTS},
        "published_general": lambda: bench.published(tested, merging=False),
        "ours_ladder": lambda: bench.ladder(tested),
    }
    for name, each in rows.items():
        found[f"published_{name}"] = lambda each=each: bench.published(each)  # type: ignore[misc]
        found[f"ours_{name}"] = lambda each=each: bench.ours(each)  # type: ignore[misc]
    return found


def medians(
    bench: Bench,
    made: Callable[[dict[str, Rows]], dict[str, Callable[[], object]]],
    rows: dict[str, Rows],
    repeats: int,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Seconds of each variant of `made`, after all of them ran on a few rows."""
    for run in made({name: each.first(2) for name, each in rows.items()}).values():
        run()
    runs = made(rows)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name, run in runs.items():
            gc.collect()
            bench.wait()
            start = clock()
            run()
            bench.wait()
            seconds[name].append(clock() - start)
        print(f"{bench.dtype}: round {repeat + 1} of {repeats}", file=sys.stderr, flush=True)
    return {name: statistics.median(values) for name, values in seconds.items()}


def difference(bench: Bench, rows: Rows) -> float:
    """The largest difference of our scores from those of whole prompts, one at a time, on the first users."""
    few = rows.first(2)
    weights = torch.tensor(few.gates, dtype=torch.float32)
    gates, model = bench.gates, bench.model
    alone = score_examples(model, few.examples, bench.pad_id, 1, lambda chosen: gates.set(weights[chosen]))
    return float(np.abs(bench.ours(few)[0] - alone).max())


if __name__ == "__main__":
    main()
