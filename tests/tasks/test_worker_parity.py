"""One training under every ZeRO stage, by two processes, with accumulation, and killed ten times: the same losses and weights."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.train_llm import _command, _env
from tasks.worker.checkpoints import LATEST
from tasks.worker.job import EVENTS, FAILURE, TrainingJob
from tests.tasks.test_worker import ROOT, Runs, config, events, finish, lora_and_projector, same
from tests.tiny_model import one_thread
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import TrainingError

__all__ = ["one_thread"]

pytestmark = pytest.mark.slow
STEPS, KILLS = 12, 10


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("parity"))


def job(runs: Runs, name: str, steps: int = STEPS, **training: Any) -> TrainingJob:
    """A training without dropout, which draws per rank and micro-batch."""
    engine = training.pop("engine", {})
    values = config(runs.model, schedule="joint", steps=steps, validate_every=steps, **training).model_dump()
    values["training"]["engine"] |= engine
    values["warm_start"]["batch_size"] = 4  # every training has to divide among the ranks
    values["llm"]["lora"]["dropout"] = 0.0
    return runs.job(name, ThinkRecConfig.model_validate(values))


def start(job: TrainingJob) -> subprocess.Popen[bytes]:
    """The worker as the task starts it, one process per rank."""
    spec = job.scratch / "job.json"
    spec.write_text(job.model_dump_json())
    with (job.scratch / "log").open("ab") as log:
        return subprocess.Popen(_command(job, spec), cwd=ROOT, env=_env(), stdout=log, stderr=log)


def curve(scratch: Path) -> torch.Tensor:
    return torch.tensor([record["loss"] for record in events(scratch) if "loss" in record])


def test_stages_of_zero_two_processes_and_accumulation_give_one_loss_curve(runs: Runs) -> None:
    engines: dict[str, dict[str, Any]] = {
        "zero0": {"engine": {"zero_stage": 0}},
        "zero2": {"engine": {"zero_stage": 2}},
        "zero3": {"engine": {"zero_stage": 3}},
        "two": {"engine": {"world_size": 2}},
        "two_zero2": {"engine": {"world_size": 2, "zero_stage": 2}},
        "accumulated": {"accumulation": 2},
        "plain": {"engine": {"backend": "torch"}},
    }
    for name, training in engines.items():
        made = job(runs, name, **training)
        finish(start(made), made)
    expected = curve(runs.scratch("zero0"))
    assert len(expected) == STEPS
    for name in engines:
        torch.testing.assert_close(curve(runs.scratch(name)), expected, atol=1e-4, rtol=0, msg=f"{name} differs")


def test_ten_kills_at_random_moments_leave_the_same_weights(runs: Runs) -> None:
    """Each kill falls a random number of steps behind the last checkpoint and a random time into a step, or into start-up."""
    length = {"steps": 240, "engine": {"backend": "deepspeed", "zero_stage": 0}}
    whole, broken = (job(runs, name, **length) for name in ("whole", "broken"))
    beside = start(whole)
    draw = random.Random(11)
    killed_at = []
    for kill in range(KILLS):
        # Two checkpoints lie between: what is recorded behind the last one is recorded again.
        target = None if kill % 4 == 1 else checkpointed(broken.scratch) + draw.randint(3, 20)
        child = start(broken)
        if target is not None:
            wait_for_step(child, broken.scratch, target)
        time.sleep(draw.uniform(0.0, 0.05) if target is not None else draw.uniform(0.0, 5.0))
        assert child.poll() is None, (broken.scratch / "log").read_text()[-3000:]
        child.send_signal(signal.SIGKILL)
        child.wait()
        killed_at.append(checkpointed(broken.scratch))
    assert killed_at == sorted(killed_at)
    assert 40 < killed_at[-1] < 240, "every kill fell into the training"
    finish(start(broken), broken)
    finish(beside, whole)
    assert same(lora_and_projector(runs.output("whole")), lora_and_projector(runs.output("broken")))
    assert torch.equal(curve(broken.scratch), curve(whole.scratch))
    assert len(curve(broken.scratch)) == 240


def test_a_truncated_checkpoint_of_deepspeed_is_told_in_one_line(runs: Runs) -> None:
    made = job(runs, "truncated", steps=400)
    child = start(made)
    wait_for_step(child, made.scratch, 5)
    child.send_signal(signal.SIGKILL)
    child.wait()
    tag = json.loads((made.scratch / "joint" / LATEST).read_text())["tag"]
    files = [path for path in (made.scratch / "joint" / tag).rglob("*.pt") if path.stat().st_size > 1000]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert start(made).wait(300) == 2
    told = json.loads((made.scratch / FAILURE).read_text())
    message = str(TrainingError(*told["args"]))
    assert told["type"] == "TrainingError"
    assert f"checkpoint {made.scratch / 'joint' / tag} cannot be read" in message
    assert "to begin this phase anew" in message
    assert "\n" not in message


def checkpointed(scratch: Path) -> int:
    """The step that a start would go on from."""
    pointer = scratch / "joint" / LATEST
    return int(json.loads(pointer.read_text())["state"]["step"]) if pointer.is_file() else 0


def wait_for_step(child: subprocess.Popen[bytes], scratch: Path, step: int) -> None:
    """Return when `step` is recorded."""
    deadline = time.monotonic() + 300
    while True:
        lines = (scratch / EVENTS).read_text().splitlines() if (scratch / EVENTS).is_file() else []
        if any(f'"step": {step}' in line for line in lines[-4:]):
            return
        assert child.poll() is None, (scratch / "log").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.005)
