"""One run of the GPU study in a process of its own: `python -m benchmarks.gpu.one NAME`; exit code 3 when its time ended first."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.ml1m.above_floor import Clock, Machine, OutOfTime, study
from benchmarks.ml1m.figures import figures
from benchmarks.ml1m.floor import floor_of
from benchmarks.ml1m.score import test_scores
from benchmarks.ml1m.small_llm import GPU_BUDGET, SmallBudget
from benchmarks.ml1m.study import CPU, GPU, Budget, Run, plan
from benchmarks.ml1m.train import experts_of, train
from storage.durable import write_whole
from storage.encoder_data import read_content
from storage.rec_data import load_samples
from storage.schemas import SAMPLES
from storage.tables import read_table
from tasks.worker.train import device_and_dtype

ROOT = Path(__file__).resolve().parents[2]
OUT_OF_TIME = 3
SHORT = Budget(steps=4, batch_size=4, validate_every=2, checkpoint_every=2, valid_rows=16, expert_steps=2)
SHORT_FLOOR = SmallBudget(steps=4, batch_size=4, checkpoint_every=2, validate_every=2, valid_rows=64)
BUDGETS = {"gpu": (GPU, GPU_BUDGET), "cpu": (CPU, SmallBudget()), "rehearsal": (SHORT, SHORT_FLOOR)}


def main() -> int:
    """Train and score one run and write its aggregates below the state."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--budget", choices=sorted(BUDGETS), required=True)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time on this machine")
    given = parser.parse_args()
    deadline = time.monotonic() + given.seconds
    run = next(run for run in plan() if run.name == given.name)
    torch.backends.cuda.matmul.allow_tf32 = False
    start = time.monotonic()
    if run.prior == "stacker":
        found = _above_stacker(run, BUDGETS[given.budget][1], given.inputs, given.state, deadline)
    else:
        found = _above_encoder(run, BUDGETS[given.budget][0], given.inputs, given.state, deadline, given.jobs)
    if found is None:
        return OUT_OF_TIME
    common = {
        "run": run.describe(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "seconds_of_last_call": round(time.monotonic() - start, 1),
        "runs_at_a_time": given.jobs,
    }
    write_whole(given.state / "results" / f"{run.name}.json", json.dumps({**common, **found}, indent=1) + "\n")
    return 0


def _above_encoder(
    run: Run, budget: Budget, inputs: Path, state: Path, deadline: float, jobs: int
) -> dict[str, Any] | None:
    model, folders = state / "model", inputs / run.protocol
    if not train(run, budget, inputs, model, state, deadline, jobs):
        return None
    llm = test_scores(run, budget, inputs, model, state, torch.float32, deadline)
    if llm is None:
        return None
    train_rows, test_rows = (load_samples(folders / "data", folders / "encoder", split) for split in ("train", "test"))
    warm = read_table(folders / "data" / "samples_test.parquet", SAMPLES, ["not_cold"]).column("not_cold").to_numpy()
    trained = {}
    for part in ["general"] if not experts_of(run) else [f"expert_{n}" for n in experts_of(run)]:
        trained[part] = json.loads((state / run.name / part / "output" / "training.json").read_text())
    content = read_content(folders / "data")
    aggregates = figures(train_rows, test_rows, content, warm, llm, run.prior == "encoder")
    return {"budget": vars(budget), "training": trained, **aggregates}


def _above_stacker(run: Run, budget: SmallBudget, inputs: Path, state: Path, deadline: float) -> dict[str, Any] | None:
    data, folder = inputs / run.protocol / "data", state / run.name
    folder.mkdir(parents=True, exist_ok=True)
    floor = floor_of(run.protocol, data, inputs / run.protocol / "floor.npz")
    os.environ.setdefault("LOCAL_RANK", "0")
    device, dtype = device_and_dtype("auto")
    machine = Machine(device, dtype, torch.float32)
    clock = Clock(folder / "seconds.json", deadline)

    def log(words: str) -> None:
        print(f"{clock.seconds:.0f} s: {words}", file=sys.stderr, flush=True)

    try:
        claims = study(run.protocol, data, floor, state / "model", folder, budget, run.seed, machine, clock, log)
    except OutOfTime:
        return None
    del claims["predictions"]
    return {**json.loads((folder / "details.json").read_text()), **claims}


if __name__ == "__main__":
    sys.exit(main())
