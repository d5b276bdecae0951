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
from pathlib import Path
from typing import Any, get_args

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ml1m.above_floor import Clock, Machine, OutOfTime, study
from benchmarks.ml1m.floor import floor_of
from benchmarks.ml1m.inputs import make_data
from benchmarks.ml1m.small_llm import SmallBudget
from benchmarks.ml1m.study import Protocol
from storage.assets import smollm2_folder
from storage.durable import write_whole
from tasks.worker.train import device_and_dtype

SEED = 0
STEPS = {torch.bfloat16: 600, torch.float32: 150}
"""Of 16 samples, by the type of the body: what is trained in about half an hour on two cores."""


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
    dtype = device_and_dtype("auto")[1]
    budget = SmallBudget(steps=STEPS[dtype], warmup=STEPS[dtype] // 10)
    if rehearse:
        budget = SmallBudget(steps=2, batch_size=4, checkpoint_every=1, valid_rows=64)

    def log(words: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {protocol} {clock.seconds:.0f} s: {words}", file=sys.stderr, flush=True)

    machine = Machine(torch.device("cpu"), dtype, dtype)
    found = study(protocol, data, floor, smollm2_folder(), folder, budget, SEED, machine, clock, log)
    write_whole(result, json.dumps(found))
    return found


if __name__ == "__main__":
    sys.exit(main())
