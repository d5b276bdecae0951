"""Kill -9 of a run, a supervisor, a launcher or a rank leaves no process of the run alive for ten seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.kill.world import ScriptedTeacher, make_world
from tasks import supervisor

ROOT = Path(__file__).parents[2]
RANKS = {"training.engine.backend": "deepspeed", "training.engine.world_size": 2, "training.steps": 400}
RANK, LAUNCHER, TEACHER = "tasks.worker.train", "torch.distributed.run", "transformers.cli.transformers"
SUPERVISOR = str(Path(supervisor.__file__).resolve())
PATIENCE, LIMIT = 480.0, 10.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def start(tmp_path: Path, world: dict[str, object]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def run(**overrides: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows.cli", "run", "--preset", "kill", "--json"]
        for name, value in {**world, **overrides}.items():
            command += ["--set", f"{name}={value}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "THINKREC_HOME": str(tmp_path / "store")}
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()


def family(home: Path, word: str = "") -> list[psutil.Process]:
    """Living processes of the store `home` with `word` among their arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("THINKREC_HOME") == str(home)
            if mine and process.status() != psutil.STATUS_ZOMBIE and (not word or word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def until(condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False


def test_the_local_teacher_ends_with_a_killed_run(
    tmp_path: Path, world: dict[str, object], start: Callable[..., subprocess.Popen[str]]
) -> None:
    local = {"teacher.base_url": "local", "teacher.model": world["llm.model"]}
    run = start(**local)
    assert until(lambda: family(tmp_path / "store", TEACHER), PATIENCE)
    run.kill()
    assert until(lambda: not family(tmp_path / "store"), LIMIT)


@pytest.mark.parametrize("victim", ["run", SUPERVISOR, LAUNCHER, RANK])
def test_no_rank_outlives_the_run_its_launcher_or_another_rank(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], victim: str
) -> None:
    home = tmp_path / "store"
    with ScriptedTeacher() as teacher:
        run = start(**RANKS, **{"teacher.base_url": teacher.url})
        # The first checkpoint shows that the ranks train.
        assert until(lambda: list(home.glob("scratch/general/*/*/latest.json")), PATIENCE), run.poll()
        named = family(home, RANK)  # the supervisor, the launcher and the ranks all name the module
        launching = [each for each in named if LAUNCHER in each.cmdline()]
        processes = {
            SUPERVISOR: [each for each in launching if SUPERVISOR in each.cmdline()],
            LAUNCHER: [each for each in launching if SUPERVISOR not in each.cmdline()],
            RANK: [each for each in named if each not in launching],
        }
        assert [len(found) for found in processes.values()] == [1, 1, 2], processes
        if victim == "run":
            run.kill()
            assert until(lambda: not family(home), LIMIT)
            return
        processes[victim][-1].kill()
        assert until(lambda: not family(home, RANK), LIMIT)
        _, told = run.communicate(timeout=60)
        assert run.returncode == 2
        assert told.startswith("error: the training worker of general stopped with exit code")
        assert until(lambda: not family(home), LIMIT)
