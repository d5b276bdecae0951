"""An LLM above its strongest floor, from whatever is already done: train, choose its weight on valid, score test once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.ml1m.floor import Floor
from benchmarks.ml1m.small_llm import SmallBudget, SmallLLM
from benchmarks.ml1m.study import Protocol
from benchmarks.ml1m.verdict import choose_weight, claims, details
from storage.durable import replace_whole, write_whole
from storage.encoder_data import read_examples
from storage.schemas import SAMPLES
from storage.tables import read_table
from thinkrec_core.evaluation.ladder import pick_test_rows
from thinkrec_core.seeds import generator

AGREEMENT_ROWS = 500


class OutOfTime(Exception):
    """The minutes of this call are over; what is done is kept."""


class Clock:
    """Adds up the seconds of kept work over calls, and ends a call when its time is over."""

    def __init__(self, path: Path, deadline: float) -> None:
        self._path, self._deadline, self._last = path, deadline, time.monotonic()
        self.seconds = float(json.loads(path.read_text())) if path.is_file() else 0.0

    def tick(self) -> None:
        """Work was kept.

        Raises:
            OutOfTime: the deadline has passed.
        """
        now = time.monotonic()
        self.seconds, self._last = self.seconds + now - self._last, now
        write_whole(self._path, json.dumps(self.seconds))
        if now > self._deadline:
            raise OutOfTime


@dataclass(frozen=True)
class Machine:
    """Where and in which types a study runs."""

    device: torch.device
    train_dtype: torch.dtype
    """Of the frozen body in training."""
    score_dtype: torch.dtype
    """Of the body where scores are reported."""


def study(
    protocol: Protocol,
    data: Path,
    floor: Floor,
    base: Path,
    folder: Path,
    budget: SmallBudget,
    seed: int,
    machine: Machine,
    clock: Clock,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """The claims of one protocol and seed; folder/details.json has more, folder/predictions.parquet the rows.

    Raises:
        OutOfTime: `clock` ended the call; the next one goes on.
    """
    valid, test = (read_examples(data / f"samples_{split}.parquet") for split in ("valid", "test"))
    rows = pick_test_rows(valid.user_idx, budget.valid_rows, generator(seed, "valid_rows"))
    dtypes = machine.train_dtype, machine.score_dtype
    llm_of = SmallLLM(
        protocol, data, floor, rows, base, folder, budget, seed, dtypes[0], machine.device, clock.tick, log
    )
    llm_of.train()
    on_valid = llm_of.scores("valid", rows, "valid", dtypes[1])
    kept = folder / "weight.json"
    if not kept.is_file():
        chosen = choose_weight(valid.user_idx[rows], valid.label[rows], floor.prior["valid"][rows], on_valid)
        write_whole(kept, json.dumps(chosen))
    weight = float(json.loads(kept.read_text()))
    more: dict[str, Any] = {"weight": weight, "budget": asdict(budget), "seed": seed}
    more |= {"train_dtype": str(dtypes[0]), "score_dtype": str(dtypes[1]), **_agreement(llm_of, on_valid, rows, dtypes)}
    llm = weight * llm_of.scores("test", range(len(test)), "test", dtypes[1])
    prior, user, label = floor.prior["test"], test.user_idx, test.label
    found = claims(user, label, prior, llm)
    clock.tick()
    predictions = folder / "predictions.parquet"
    columns = {"row": np.arange(len(label)), "user_idx": user, "label": label, "prior": prior, "llm": llm}
    pq.write_table(pa.table({**columns, "score": prior + llm}), predictions.with_suffix(".partial"))
    replace_whole(predictions.with_suffix(".partial"), predictions)
    rungs = {"bias": floor.bias["test"], "floor": prior, "net": floor.net["test"], "llm": llm, "model": prior + llm}
    net = choose_weight(valid.user_idx, valid.label, floor.prior["valid"], floor.net["valid"])
    rungs["floor_and_net"] = prior + net * floor.net["test"]
    warm = read_table(data / "samples_test.parquet", SAMPLES, ["not_cold"]).column(0).to_numpy()
    more |= details(user, label, warm, rungs, prior, llm)
    write_whole(folder / "details.json", json.dumps(more, indent=1) + "\n")
    return found | {"seconds": round(clock.seconds, 1), "predictions": str(predictions)}


def _agreement(
    llm_of: SmallLLM,
    scores: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
    dtypes: tuple[torch.dtype, torch.dtype],
) -> dict[str, float | None]:
    """How far the body's other type moves the logits of some valid rows; None where there is one type only."""
    if set(dtypes) == {torch.float32}:
        return {"bf16_max_difference": None, "bf16_correlation": None}
    other_dtype = torch.bfloat16 if dtypes[1] == torch.float32 else torch.float32
    other = llm_of.scores("valid", rows[:AGREEMENT_ROWS], "valid-other-type", other_dtype)
    part = scores[: len(other)]
    return {
        "bf16_max_difference": float(np.abs(part - other).max()),
        "bf16_correlation": float(np.corrcoef(part, other)[0, 1]),
    }
