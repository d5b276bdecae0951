"""The strong floor of the CPU study: the stacker's logits, and the hand-made features that the soft tokens are made from.

The features of a train row come from item effects fitted without its user and, under liked histories, from the user's labels
before a random cut-off, as `thinkrec_core.encoders.stacker` says: a train row looks as a test row will.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.ml1m.study import INPUT_SEED, Protocol
from storage.durable import replace_whole
from storage.encoder_data import read_content, read_examples, read_sizes
from storage.schemas import SAMPLES
from storage.tables import read_table
from thinkrec_core.config.ladder import LadderConfig
from thinkrec_core.encoders.bias import fit_bias
from thinkrec_core.encoders.stacker import (
    BLOCK,
    FACTS,
    OF_TARGET_IN_BLOCK,
    StackerFeatures,
    TimedExamples,
    boosted_logits,
)
from thinkrec_core.recllm.prompt import Slot
from thinkrec_core.recllm.records import Samples
from thinkrec_core.seeds import derived_seed, generator

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
NET_BATCH, NET_RATE = 64, 3e-3


@dataclass(frozen=True)
class Floor:
    """What is known of every row without a language model."""

    features: dict[str, Float32]
    """By split, standardised over train and clipped to 5 deviations: train (N, F), N = replicas * R; valid and test (R, F)."""
    prior: dict[str, Float]
    """valid and test: logits of the stacker."""
    bias: dict[str, Float]
    """valid and test: logits of the main effects alone."""
    net: dict[str, Float]
    """valid and test: logits of a two-layer net on `features`: what the soft tokens' inputs are worth without an LLM."""
    inner: dict[str, Float32]
    """weight and bias of that net's first layer, from which the projector's starts."""


def floor_of(protocol: Protocol, data: Path, kept: Path) -> Floor:
    """The floor of `protocol` on the artifact `data`; written to the file `kept` the first time, read from it afterwards."""
    if not kept.is_file():
        partial = kept.with_name(f"{kept.name}.partial.npz")
        np.savez_compressed(partial, **_fit(protocol, data))  # type: ignore[arg-type]
        replace_whole(partial, kept)
    parts: dict[str, dict[str, npt.NDArray[np.float64]]] = {}
    with np.load(kept, allow_pickle=False) as arrays:
        for name in arrays.files:
            group, _, key = name.partition(":")
            parts.setdefault(group, {})[key] = arrays[name]
    return Floor(**parts)  # type: ignore[arg-type]


def _fit(protocol: Protocol, data: Path) -> dict[str, npt.NDArray[np.float64]]:
    config, content, sizes = LadderConfig(), read_content(data), read_sizes(data)
    splits = {split: read_examples(data / f"samples_{split}.parquet") for split in ("train", "valid", "test")}
    train, later = splits["train"], {split: splits[split] for split in ("valid", "test")}
    time = read_table(data / "samples_train.parquet", SAMPLES, ["timestamp"]).column(0).to_numpy()
    bias = fit_bias(config.bias, train.user_idx, train.item_idx, train.label, content, sizes)
    labelled, draw = protocol == "labelled", generator(INPUT_SEED, "stacker")
    made = StackerFeatures(config.stacker, config.bias, TimedExamples(train, time), content, sizes, labelled, draw)
    features, labels = made.train()
    raw = {split: made.later(rows) for split, rows in later.items()}
    boosted = dict(
        zip(raw, boosted_logits(config.stacker, features, labels, list(raw.values()), INPUT_SEED), strict=True)
    )
    mean, std = features.mean(0), np.maximum(features.std(0), 1e-6)
    scaled = {
        split: np.clip((part - mean) / std, -5, 5).astype(np.float32)
        for split, part in {"train": features, **raw}.items()
    }
    net = _net(scaled["train"], labels)
    found: dict[str, npt.NDArray[np.float64]] = {f"features:{split}": part for split, part in scaled.items()}
    for split, rows in later.items():
        plain = bias.score(rows.user_idx, rows.item_idx)
        found[f"bias:{split}"] = plain
        found[f"prior:{split}"] = (1 - config.stacker.blend) * boosted[split] + config.stacker.blend * plain
        with torch.no_grad():
            found[f"net:{split}"] = net(torch.from_numpy(scaled[split]))[:, 0].double().numpy()
    found |= {f"inner:{name}": value.detach().numpy() for name, value in net[0].named_parameters()}
    return found


def multiplier(features: int) -> int:
    """m of the projector: about 128 hidden units."""
    return round(128 / features)


def _net(features: Float32, labels: npt.NDArray[np.int64]) -> torch.nn.Sequential:
    size, draw = features.shape[1], generator(INPUT_SEED, "net")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(INPUT_SEED, "net"))
        hidden = multiplier(size) * size
        net = torch.nn.Sequential(torch.nn.Linear(size, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=NET_RATE, weight_decay=1e-3)
    inputs, wanted = torch.from_numpy(features), torch.from_numpy(labels.astype(np.float32))
    steps = len(labels) // NET_BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, NET_RATE / 10)
    order = torch.from_numpy(draw.permutation(len(labels)))
    for step in range(steps):
        rows = order[step * NET_BATCH : (step + 1) * NET_BATCH]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(inputs[rows])[:, 0], wanted[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net


class RowSignals:
    """Soft-token inputs made from the features of a row: all of them in the target's slot, in the user's slot those that every
    target of one user and one history shares, so that their prompts begin alike.

    Takes the place of `thinkrec_core.recllm.signals.Signals` in an ExampleFactory.

    Args:
        features: (R, F) of the rows of one split.

    Raises:
        ValueError: features of another version of the stacker, as an old file of a floor holds them.
    """

    def __init__(self, features: Float32) -> None:
        self._features, self.size = features, features.shape[1]
        if (self.size - FACTS) % BLOCK:
            raise ValueError(f"{self.size} features, expected {FACTS} and blocks of {BLOCK}: made by another version")
        of_target = [*range(FACTS)]
        for block in range(FACTS, self.size, BLOCK):
            of_target += [block + column for column in OF_TARGET_IN_BLOCK]
        self._shared = np.ones(self.size, np.float32)
        self._shared[of_target] = 0.0

    def scalars(self, samples: Samples) -> Float32:
        """(R, F)."""
        assert len(samples) == len(self._features)
        return self._features

    def slot_input(self, slot: Slot, scalars: Float32) -> Float32:
        """(F,) input of one slot."""
        return scalars * self._shared if slot.kind == "user" else scalars
