"""What mixing experts per sample costs: one batched forward against a single adapter, and against merging user by user.

    python benchmarks/experts.py [--repeats 9] [--tokens 160]

SmolLM2-135M in fp32, batches of 16 users with one row each. Every expert differs from every other on every layer, which is
the dear case: experts that share the lower layers with the general adapter keep one copy there.

overhead_N: seconds of the stacked forward with N experts and per-sample gates, over those of the forward with a single
adapter as PEFT runs it. ratio_vs_published: seconds of the published way with 8 experts on the same rows (for each batch of
2 the adapters are merged by `add_weighted_adapter` with the weights of the batch's first user, then a forward) over those of
the stacked forward. Variants take turns, and each figure is a ratio of medians.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from peft import PeftModel

from storage.assets import smollm2_folder
from storage.language_model import load_base
from thinkrec_core.experts.stacked import AdapterWeights, Gates, stack_adapters
from thinkrec_core.recllm.adapters import add_lora

USERS, PUBLISHED_BATCH = 16, 2
COUNTS = (2, 4, 8)
RANK, ALPHA, MODULES = 8, 16.0, ("q_proj", "v_proj")


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=160, help="longest prompt; lengths fall to a half of it")
    arguments = parser.parse_args()
    draw = torch.Generator().manual_seed(1)
    rows = Rows(arguments.tokens, draw)
    peft, states = experts(max(COUNTS))
    shares = torch.softmax(3 * torch.randn(USERS, max(COUNTS), generator=draw), dim=1)
    variants: dict[str, Callable[[], None]] = {
        "single": lambda: forward(peft, rows),
        "published": lambda: published(peft, rows, shares),
        **{f"stacked_{count}": stacked(states[:count], rows, shares[:, :count]) for count in (1, *COUNTS)},
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(arguments.repeats + 1):
        for name, run in variants.items():
            gc.collect()
            start = time.perf_counter()
            run()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print({name: round(value, 4) for name, value in median.items()}, file=sys.stderr)
    result = {f"overhead_{count}": round(median[f"stacked_{count}"] / median["single"], 3) for count in COUNTS}
    result["ratio_vs_published"] = round(median["published"] / median[f"stacked_{max(COUNTS)}"], 2)
    print(json.dumps(result))


class Rows:
    """One right-padded batch of random token ids, a row per user, sorted by length as the evaluation does."""

    def __init__(self, tokens: int, draw: torch.Generator) -> None:
        lengths = torch.randint(tokens // 2, tokens + 1, (USERS,), generator=draw).sort().values
        self.ids_BT = torch.randint(100, 40_000, (USERS, tokens), generator=draw)
        self.mask_BT = (torch.arange(tokens) < lengths[:, None]).long()

    def part(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask of some rows, without columns that only pad."""
        mask_BT = self.mask_BT[start:stop]
        width = int(mask_BT.sum(dim=1).max())
        return self.ids_BT[start:stop, :width], mask_BT[:, :width]


def experts(count: int) -> tuple[PeftModel, list[AdapterWeights]]:
    """A PEFT model with the random adapters "0", "1", ..., and their states; "0" is active."""
    draw = torch.Generator().manual_seed(2)
    peft = add_lora(load_base(smollm2_folder(), torch.float32), RANK, ALPHA, 0.0, MODULES, seed=0)
    config = peft.peft_config["default"]
    for number in range(count):
        peft.add_adapter(str(number), config)
    peft.delete_adapter("default")
    peft.set_adapter("0")
    states: list[AdapterWeights] = []
    parameters = peft.state_dict()
    for number in range(count):
        own = {name: value for name, value in parameters.items() if f".{number}.weight" in name and "lora_" in name}
        for value in own.values():
            value.copy_(0.02 * torch.randn(value.shape, generator=draw))
        states.append({name.replace(f".{number}.weight", ".weight"): value.clone() for name, value in own.items()})
    return peft.eval(), states


@torch.no_grad()
def forward(model: torch.nn.Module, rows: Rows, start: int = 0, stop: int = USERS) -> None:
    """Last hidden states of some rows: the head is the same for every variant and left out."""
    ids_BT, mask_BT = rows.part(start, stop)
    body = model.get_base_model().model if isinstance(model, PeftModel) else model.model  # type: ignore[attr-defined]
    body(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)


def stacked(states: list[AdapterWeights], rows: Rows, shares: torch.Tensor) -> Callable[[], None]:
    """The stacked forward with gates of its own for every row."""
    model, gates = load_base(smollm2_folder(), torch.float32), Gates(len(states))
    stack_adapters(model, states, ALPHA / RANK, gates)

    def run() -> None:
        gates.set(shares)
        forward(model, rows)

    return run


@torch.no_grad()
def published(peft: PeftModel, rows: Rows, shares: torch.Tensor) -> None:
    """Merge for the first user of each batch of 2, run the batch, forget the merge."""
    names = [str(number) for number in range(shares.shape[1])]
    for start in range(0, USERS, PUBLISHED_BATCH):
        peft.add_weighted_adapter(names, shares[start].tolist(), "user", combination_type="linear")
        peft.set_adapter("user")
        forward(peft, rows, start, start + PUBLISHED_BATCH)
        peft.delete_adapter("user")
    peft.set_adapter("0")


if __name__ == "__main__":
    main()
