"""One try at the preset `kill` in a store of its own: as plain task functions in a forked process, or as the whole flow.

Whoever calls `plain` has to have called `preload` first and must not compute anything with torch itself: each try is a fork of
this process, which saves the seconds of the imports.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from flows.config import load_config
from flows.run import Run
from flows.thinkrec import pipeline
from storage.code_digest import code_digest, library_versions
from storage.disk_faults import disk_faults
from storage.home import ENVIRONMENT_VARIABLE, runs_folder
from storage.store import ArtifactRef, ArtifactStore
from storage.tracking import NullTracker
from tasks.cluster_users import cluster_users
from tasks.collect_wrong import collect_wrong_predictions
from tasks.distil_reflections import distil_reflections
from tasks.prepare_data import prepare_data
from tasks.stage import RunContext
from tasks.train_encoder import train_encoder
from tasks.view import View
from thinkrec_core.errors import ThinkRecError

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 300.0
STAGES = (
    "prepare_data",
    "train_encoder",
    "collect_wrong",
    "distil_reflections",
    "train_llm",
    "cluster_users",
    "evaluate",
    "write_report",
)
"""Modules of tasks."""
KILLED, TOLD = -signal.SIGKILL, 2


class PlainRun(Run):
    """A run whose stages are called as the plain functions under the tasks: no Prefect server is asked."""

    def __call__(self, stage: Callable[..., Any], *inputs: Any, **named: Any) -> ArtifactRef:
        """The artifact of `stage`."""
        outcome = stage.fn(self.context, *inputs, **named)  # type: ignore[attr-defined]
        ref = outcome if isinstance(outcome, ArtifactRef) else outcome.data
        assert isinstance(ref, ArtifactRef)
        return ref


def without_model(run: Run) -> dict[str, Any]:
    """The stages before the first one that needs the language model: for a short form of the benchmark."""
    data = run(prepare_data)
    encoder = run(train_encoder, data)
    run(distil_reflections, run(collect_wrong_predictions, data, encoder, None))
    run(cluster_users, data, encoder)
    return run.keep({"run": run.name, "preset": run.preset, **run.stages(), "rungs": {}})


@dataclass
class Attempt:
    """A try that is under way: the process, and how it ended once it has."""

    process: psutil.Process
    log: Path

    def wait(self) -> int:
        """The exit code, -9 after SIGKILL.

        Raises:
            TimeoutError: it runs for longer than LIMIT_SECONDS.
        """
        try:
            return int(self.process.wait(LIMIT_SECONDS))
        except psutil.TimeoutExpired:
            raise TimeoutError(f"still running after {LIMIT_SECONDS} s; log: {self.log}") from None

    def family(self) -> list[psutil.Process]:
        """The process and all below it that compute, without supervisors."""
        try:
            below = self.process.children(recursive=True)
        except psutil.Error:
            below = []
        return [self.process, *(each for each in below if not _is_supervisor(each))]


def preload(model: bool = True) -> None:
    """Import what the stages import late and parse their code, so that a fork need not."""
    for name in (
        "duckdb",
        "openai",
        "scipy.cluster.hierarchy",
        "storage.prepare",
        "thinkrec_core.encoders.out_of_fold",
    ):
        importlib.import_module(name)
    if model:
        importlib.import_module("tasks.scoring_bench")  # torch, transformers, peft
    for name in STAGES:  # what their keys say of the code
        code_digest(f"tasks.{name}")
        library_versions(f"tasks.{name}")


def plain(root: Path, overrides: dict[str, Any], short: bool = False, **environment: str) -> Attempt:
    """A fork that runs the stages in the store `root`; exit code 2 where a ThinkRecError ended it."""
    log = _log(root)
    process = os.fork()
    if process == 0:
        code = 1
        try:
            _redirect(log)
            os.environ.update({**environment, ENVIRONMENT_VARIABLE: str(root)})
            runs_folder(root).mkdir(parents=True, exist_ok=True)
            context = RunContext(load_config("kill", overrides), ArtifactStore(root), NullTracker(), View())
            run = PlainRun(f"kill-{time.time_ns()}", "kill", context, time.monotonic())
            with disk_faults(f"run {run.name}", root), context.store.in_use():
                (without_model if short else pipeline)(run)
            code = 0
        except ThinkRecError as error:
            print(f"error: {error}", file=sys.stderr)
            code = TOLD
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return Attempt(psutil.Process(process), log)


def flow(root: Path, overrides: dict[str, Any], **environment: str) -> Attempt:
    """`thinkrec run --preset kill` with its Prefect server and MLflow."""
    command = [sys.executable, "-m", "flows.cli", "run", "--preset", "kill", "--json"]
    for name, value in overrides.items():
        command += ["--set", f"{name}={value}"]
    log = _log(root)
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment, ENVIRONMENT_VARIABLE: str(root)}
    with log.open("ab") as output:
        started = subprocess.Popen(command, env=variables, cwd=root, stdout=output, stderr=output)
    return Attempt(psutil.Process(started.pid), log)


def orphans(root: Path) -> list[str]:
    """Command lines of processes that a run in the store `root` left behind."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(ENVIRONMENT_VARIABLE) == str(root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:120])
        except psutil.Error:
            continue
    return found


def _log(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    return root.with_suffix(".log")


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _is_supervisor(process: psutil.Process) -> bool:
    try:
        return any(part.endswith("supervisor.py") for part in process.cmdline())
    except psutil.Error:
        return True
