"""ThinkRec beside its strongest floor on the ML-1M benchmark split, on a CPU: LIKED and LABELLED, SmolLM2-135M.

    python benchmarks/ml1m_cpu.py --data PATH --home FOLDER [--minutes M] [--protocols liked labelled]

The prior is the stacker, gradient boosting on hand-made features. The LLM is trained on labels alone, adapter and projector
together, from soft tokens made of the same features (the stacker's logit is not among them) and the titles of the newest five
items; the projector's first layer starts from that of a small net on the features. score = prior + a * LLM logit, a chosen on
1,500 valid rows. The test rows are scored once, after that choice.

FOLDER holds everything; stopped at any moment, the next call goes on from the last checkpoint or the last 64 scored rows.
FOLDER/PROTOCOL/details.json has intervals, paired differences to the floor, the small net's figures (what the soft tokens' inputs
are worth without an LLM) and `echo_ci` (benchmarks/ml1m/verdict.py). `seconds` is the time of all kept work. Where the CPU
computes bf16 the body is bf16 and details.json compares 500 rows with fp32; elsewhere everything is fp32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ml1m.floor import Floor, floor_of
from benchmarks.ml1m.inputs import make_data
from benchmarks.ml1m.small_llm import SmallBudget, SmallLLM
from benchmarks.ml1m.study import Protocol
from benchmarks.ml1m.verdict import choose_weight, claims, details
from storage.durable import replace_whole, write_whole
from storage.encoder_data import read_examples
from storage.schemas import SAMPLES
from storage.tables import read_table
from tasks.worker.train import device_and_dtype
from thinkrec_core.evaluation.ladder import pick_test_rows
from thinkrec_core.seeds import generator

VALID_ROWS, AGREEMENT_ROWS, SEED = 1500, 500, 0


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


def main() -> int:
    """Go on until both protocols are done and print one JSON line; exit code 3 when the minutes ended first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the ML-1M split")
    parser.add_argument("--home", type=Path, default=Path("ml1m-cpu"), help="holds all state between calls")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; call again to go on")
    parser.add_argument("--protocols", nargs="+", choices=get_args(Protocol), default=list(get_args(Protocol)))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rehearse", action="store_true", help="60 users, 2 steps and few rows, to try the path")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    warnings.filterwarnings("ignore", category=FutureWarning)  # transformers about its own names
    deadline, found = time.monotonic() + 60 * given.minutes, {}
    for protocol in given.protocols:
        folder = given.home.resolve() / protocol
        folder.mkdir(parents=True, exist_ok=True)
        try:
            found[protocol] = run(protocol, given.data.resolve(), folder, deadline, given.rehearse)
        except OutOfTime:
            print(f"{protocol} is not finished; call again to go on", file=sys.stderr)
            return 3
    print(json.dumps(found))
    return 0


def run(protocol: Protocol, source: Path, folder: Path, deadline: float, rehearse: bool) -> dict[str, Any]:
    """The claims of `protocol`, from wherever `folder` stands."""
    result = folder / "result.json"
    if result.is_file():
        return dict(json.loads(result.read_text()))
    clock = Clock(folder / "seconds.json", deadline)
    data = make_data(source, protocol, folder.parent / "store", 60 if rehearse else None)
    floor = floor_of(protocol, data, folder / "floor.npz")
    clock.tick()
    budget = SmallBudget(steps=2, batch_size=4, checkpoint_every=1) if rehearse else SmallBudget()
    dtype = device_and_dtype("auto")[1]

    def log(words: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {protocol} {clock.seconds:.0f} s: {words}", file=sys.stderr, flush=True)

    model = SmallLLM(protocol, data, floor, folder, budget, SEED, dtype, clock.tick, log)
    model.train()
    weight, agreement = _choice(model, data, floor, folder, dtype, 64 if rehearse else VALID_ROWS)
    test = read_examples(data / "samples_test.parquet")
    llm = weight * model.scores("test", range(len(test)), "test", dtype)
    prior, user, label = floor.prior["test"], test.user_idx, test.label
    found = claims(user, label, prior, llm)
    clock.tick()
    predictions = folder / "predictions.parquet"
    columns = {"row": np.arange(len(label)), "user_idx": user, "label": label, "prior": prior, "llm": llm}
    pq.write_table(pa.table({**columns, "score": prior + llm}), predictions.with_suffix(".partial"))
    replace_whole(predictions.with_suffix(".partial"), predictions)
    valid = read_examples(data / "samples_valid.parquet")
    rungs = {"bias": floor.bias["test"], "floor": prior, "net": floor.net["test"], "llm": llm, "model": prior + llm}
    net = choose_weight(valid.user_idx, valid.label, floor.prior["valid"], floor.net["valid"])
    rungs["floor_and_net"] = prior + net * floor.net["test"]
    warm = read_table(data / "samples_test.parquet", SAMPLES, ["not_cold"]).column(0).to_numpy()
    more: dict[str, Any] = {"weight": weight, "budget": asdict(budget), "seed": SEED, "dtype": str(dtype), **agreement}
    more |= details(user, label, warm, rungs, prior, llm)
    write_whole(folder / "details.json", json.dumps(more, indent=1) + "\n")
    found |= {"seconds": round(clock.seconds, 1), "predictions": str(predictions)}
    write_whole(result, json.dumps(found))
    return found


def _choice(
    model: SmallLLM, data: Path, floor: Floor, folder: Path, dtype: torch.dtype, about: int
) -> tuple[float, dict[str, float | None]]:
    """The weight of the LLM's logit chosen on valid rows, and how far the body's type moves the logits of some of them."""
    valid = read_examples(data / "samples_valid.parquet")
    rows = pick_test_rows(valid.user_idx, about, generator(SEED, "valid_rows"))
    llm = model.scores("valid", rows, "valid", dtype)
    kept = folder / "weight.json"
    if not kept.is_file():
        weight = choose_weight(valid.user_idx[rows], valid.label[rows], floor.prior["valid"][rows], llm)
        write_whole(kept, json.dumps(weight))
    agreement: dict[str, float | None] = {"bf16_max_difference": None, "bf16_correlation": None}
    if dtype != torch.float32:
        exact = model.scores("valid", rows[:AGREEMENT_ROWS], "valid-fp32", torch.float32)
        part = llm[: len(exact)]
        agreement["bf16_max_difference"] = float(np.abs(part - exact).max())
        agreement["bf16_correlation"] = float(np.corrcoef(part, exact)[0, 1])
    return float(json.loads(kept.read_text())), agreement


if __name__ == "__main__":
    sys.exit(main())
