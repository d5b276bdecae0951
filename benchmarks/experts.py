"""What mixing experts per sample costs: one batched forward against a single adapter, and against merging user by user.

    python benchmarks/experts.py [--repeats 9] [--tokens 160] [--device cuda --dtype bf16 --model FOLDER]

SmolLM2-135M, in fp32 unless told otherwise, batches of 16 users with one row each. Every expert differs from every other on
every layer, which is the dear case: experts that share the lower layers with the general adapter keep one copy there.

overhead_N: seconds of the stacked forward with N experts and per-sample gates, over those of the forward with a single
adapter as PEFT runs it; both end at the last hidden states, since the head is the same. ratio_vs_published: seconds of the
published way of scoring the same rows with 8 experts over those of ours, each to its end:

  published  rows as they come, two by two: where the first user is another one, `add_weighted_adapter` ("linear") over the 8
             adapters, then a forward with the answer appended and left padding, full-vocabulary logits at every position and
             their cross-entropy; the adapter of the user before is deleted
  ours       as the evaluation of this project scores: rows by length, batches of 16, the answer's logit from its one row of
             the head

Variants take turns, and each figure is a ratio of medians. The parts of the published way are on stderr.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from storage.assets import smollm2_folder
from storage.language_model import load_base
from thinkrec_core.experts.stacked import AdapterWeights, Gates, stack_adapters
from thinkrec_core.recllm.adapters import add_lora

USERS, PUBLISHED_BATCH = 16, 2
ANSWER = 3869
"""Any token id; stands for the first token of "Yes"."""
COUNTS = (2, 4, 8)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
RANK, ALPHA, MODULES = 8, 16.0, ("q_proj", "v_proj")


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=160, help="longest prompt; lengths fall to a half of it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="fp32", help="of the frozen body; adapters are fp32")
    parser.add_argument("--model", type=Path, help="folder of the base model, for machines that cannot fetch it")
    arguments = parser.parse_args()
    draw = torch.Generator().manual_seed(1)
    place = Place(arguments.model or smollm2_folder(), torch.device(arguments.device), DTYPES[arguments.dtype])
    rows = Rows(arguments.tokens, draw, place.device)
    peft, states = experts(place, max(COUNTS))
    shares = torch.softmax(3 * torch.randn(USERS, max(COUNTS), generator=draw), dim=1)
    variants: dict[str, Callable[[], None]] = {
        "single": lambda: forward(peft, rows),
        "published": lambda: published(peft, rows, shares),
        "merges": lambda: merges(peft, shares),
        "ours": ours(place, states, rows, shares),
        **{f"stacked_{count}": stacked(place, states[:count], rows, shares[:, :count]) for count in (1, *COUNTS)},
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(arguments.repeats + 1):
        for name, run in variants.items():
            gc.collect()
            place.wait()
            start = time.perf_counter()
            run()
            place.wait()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print({name: round(value, 4) for name, value in median.items()}, file=sys.stderr)
    result = {f"overhead_{count}": round(median[f"stacked_{count}"] / median["single"], 3) for count in COUNTS}
    result["ratio_vs_published"] = round(median["published"] / median["ours"], 2)
    print(json.dumps(result))


@dataclass(frozen=True)
class Place:
    """Where and in which type the forwards run."""

    model: Path
    device: torch.device
    dtype: torch.dtype

    def base(self) -> Any:
        """A fresh copy of the base model."""
        return load_base(self.model, torch.float32).to(self.device, self.dtype)  # type: ignore[arg-type]

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Rows:
    """Random token ids, a row per user: right-padded and sorted by length; `arrival` is another order."""

    def __init__(self, tokens: int, draw: torch.Generator, device: torch.device) -> None:
        lengths = torch.randint(tokens // 2, tokens + 1, (USERS,), generator=draw).sort().values
        self.device = device
        self.ids_BT = torch.randint(100, 40_000, (USERS, tokens), generator=draw)
        self.mask_BT = (torch.arange(tokens) < lengths[:, None]).long()
        self.arrival = torch.randperm(USERS, generator=draw)

    def part(self, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask of some rows, without columns that only pad."""
        mask_BT = self.mask_BT[start:stop]
        width = int(mask_BT.sum(dim=1).max())
        return self.ids_BT[start:stop, :width].to(self.device), mask_BT[:, :width].to(self.device)

    def published_pair(self, first: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids, mask and labels of row `first` and the one that came after it: left-padded, the answer appended."""
        place = int((self.arrival == first).nonzero()[0, 0])
        pair = self.arrival[place : place + PUBLISHED_BATCH]
        lengths = self.mask_BT[pair].sum(dim=1).tolist()
        width = max(lengths) + 1
        ids, mask = torch.zeros(len(pair), width, dtype=torch.long), torch.zeros(len(pair), width, dtype=torch.long)
        for row, (number, length) in enumerate(zip(pair.tolist(), lengths, strict=True)):
            ids[row, width - 1 - length : -1] = self.ids_BT[number, :length]
            mask[row, width - 1 - length :] = 1
        ids[:, -1] = ANSWER
        labels = torch.full_like(ids, -100)
        labels[:, -1] = ANSWER
        return ids.to(self.device), mask.to(self.device), labels.to(self.device)


def experts(place: Place, count: int) -> tuple[PeftModel, list[AdapterWeights]]:
    """A PEFT model with the random adapters "0", "1", ..., and their states; "0" is active."""
    draw = torch.Generator().manual_seed(2)
    peft = add_lora(place.base(), RANK, ALPHA, 0.0, MODULES, seed=0)
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
        states.append(
            {name.replace(f".{number}.weight", ".weight"): value.cpu().clone() for name, value in own.items()}
        )
    return peft.eval(), states


@torch.no_grad()
def forward(model: torch.nn.Module, rows: Rows, start: int = 0, stop: int = USERS) -> None:
    """Last hidden states of some rows: the head is the same for every variant and left out."""
    ids_BT, mask_BT = rows.part(start, stop)
    body = model.get_base_model().model if isinstance(model, PeftModel) else model.model  # type: ignore[attr-defined]
    body(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)


def stacked(place: Place, states: list[AdapterWeights], rows: Rows, shares: torch.Tensor) -> Callable[[], None]:
    """The stacked forward with gates of its own for every row."""
    model, gates = place.base(), Gates(len(states))
    stack_adapters(model, states, ALPHA / RANK, gates)
    model.to(place.device)

    def run() -> None:
        gates.set(shares)
        forward(model, rows)

    return run


def ours(place: Place, states: list[AdapterWeights], rows: Rows, shares: torch.Tensor) -> Callable[[], None]:
    """Scores of all rows in one batch, by length: stacked forward and the answer's row of the head."""
    model, gates = place.base(), Gates(len(states))
    stack_adapters(model, states, ALPHA / RANK, gates)
    model.to(place.device)
    answer_H = model.get_output_embeddings().weight[ANSWER]

    @torch.no_grad()
    def run() -> None:
        order = rows.mask_BT.sum(dim=1).argsort()
        gates.set(shares[order])
        ids_BT, mask_BT = rows.ids_BT[order].to(rows.device), rows.mask_BT[order].to(rows.device)
        hidden_BTH = model.model(ids_BT, mask_BT, use_cache=False).last_hidden_state
        last_BH = hidden_BTH[torch.arange(USERS, device=rows.device), mask_BT.sum(dim=1) - 1]
        assert (last_BH @ answer_H).shape == (USERS,)

    return run


@torch.no_grad()
def published(peft: PeftModel, rows: Rows, shares: torch.Tensor) -> None:
    """Scores two by two, in the order in which rows come."""
    for start in rows.arrival[::PUBLISHED_BATCH].tolist():
        merge(peft, shares[start])
        ids_BT, mask_BT, labels_BT = rows.published_pair(start)
        out = peft(input_ids=ids_BT, attention_mask=mask_BT, labels=labels_BT, use_cache=False)
        assert out.logits[:, -2, ANSWER].shape == (PUBLISHED_BATCH,)
    forget(peft)


def merges(peft: PeftModel, shares: torch.Tensor) -> None:
    """The part of `published` that changes adapters."""
    for share in shares[::PUBLISHED_BATCH]:
        merge(peft, share)
    forget(peft)


def merge(peft: PeftModel, share: torch.Tensor) -> None:
    """Merge the experts for one user, and delete the adapter of the user before."""
    names = [str(number) for number in range(len(share))]
    fresh, old = ("user_a", "user_b") if "user_b" in peft.peft_config else ("user_b", "user_a")
    peft.add_weighted_adapter(names, share.tolist(), fresh, combination_type="linear")
    peft.set_adapter(fresh)
    if old in peft.peft_config:
        peft.delete_adapter(old)


def forget(peft: PeftModel) -> None:
    """Leave the model as it was before the first merge."""
    peft.set_adapter("0")
    for name in ("user_a", "user_b"):
        if name in peft.peft_config:
            peft.delete_adapter(name)


if __name__ == "__main__":
    main()
