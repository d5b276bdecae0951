"""One training of the study, in pieces: it stops at a deadline and goes on from its last checkpoint the next time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.ml1m.study import Budget, Run, configuration
from tasks.worker.job import FINISHED, TrainingJob

ROOT = Path(__file__).resolve().parents[2]


def experts_of(run: Run) -> range:
    """Numbers of the experts that `run` trains on top of its general adapter."""
    return range(2) if run.rung == "thinkrec_experts_no_think" else range(0)


def output(state: Path, run: Run, part: str = "general") -> Path:
    """Where the artifact of a training lies."""
    return state / run.name / part / "output"


def train(run: Run, budget: Budget, inputs: Path, model: Path, state: Path, deadline: float, sharers: int = 1) -> bool:
    """Whether everything that `run` needs is trained; False when the monotonic clock passed `deadline` first.

    Args:
        sharers: trainings at a time on this machine.

    Raises:
        SystemExit: a training failed; the end of its log is shown.
    """
    if not experts_of(run):
        return _train(run, "general", None, budget, inputs, model, state, deadline, sharers)
    if not train(run.general, budget, inputs, model, state, deadline, sharers):
        return False
    return all(
        _train(run, f"expert_{number}", number, budget, inputs, model, state, deadline, sharers)
        for number in experts_of(run)
    )


def _train(
    run: Run,
    part: str,
    expert: int | None,
    budget: Budget,
    inputs: Path,
    model: Path,
    state: Path,
    deadline: float,
    sharers: int,
) -> bool:
    scratch = state / run.name / part / "scratch"
    if (scratch / FINISHED).is_file():
        return True
    scratch.mkdir(parents=True, exist_ok=True)
    folders = inputs / run.protocol
    job = TrainingJob(
        kind="general" if expert is None else "expert",
        config=configuration(run, budget),
        model=model,
        data=folders / "data",
        encoder=folders / "encoder",
        start_from=None if expert is None else output(state, run.general),
        clusters=None if expert is None else folders / "clusters",
        cluster=expert,
        sharers=sharers,
        output=output(state, run, part),
        scratch=scratch,
    )
    spec, log = scratch / "job.json", scratch / "worker.log"
    spec.write_text(job.model_dump_json(indent=1))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        with log.open("ab") as handle:
            done = subprocess.run(
                [sys.executable, "-m", "tasks.worker.train", str(spec)],
                env=environment,
                stdout=handle,
                stderr=handle,
                timeout=max(1.0, deadline - time.monotonic()),
                check=False,
            )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode:
        sys.exit(f"training {run.name}/{part} failed: {log.read_text(errors='replace')[-2000:]}")
    return True
