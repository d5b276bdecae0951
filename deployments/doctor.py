"""`thinkrec doctor`: what keeps runs from working, each found thing with its remedy, and the remedies that need no choice."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deployments.daemons import find_daemon
from deployments.platform import POOL
from deployments.ports import answers
from deployments.servers import MLFLOW, PREFECT, WORKER, api_url
from deployments.zombies import crash_zombies, zombies
from storage.home import runs_folder
from storage.store import ArtifactStore
from thinkrec_core.config.reflections import JOURNAL, LOCAL, TeacherConfig
from thinkrec_core.errors import PlatformError, StoreError, one_line

FREE_GB = 5.0
"""Less than this is told: checkpoints of a small model take some of it, those of an 8B model more."""
ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    fine: bool
    found: str
    remedy: str = ""
    """What to do now, or what was done; empty where all is well."""


def examine(root: Path, teacher: TeacherConfig, mend: bool) -> list[Finding]:
    """What was found about the store at `root`, the machine, the teacher and the platform.

    Args:
        mend: remove what dead runs left, and mark runs without a worker as crashed.
    """
    looks: tuple[Callable[[], Finding], ...] = (
        lambda: _store(root),
        lambda: _disk(root),
        _gpu,
        lambda: _teacher(teacher),
        lambda: _leftovers(root, mend),
        *(lambda name=name: _daemon(root, name) for name in (PREFECT, MLFLOW, WORKER)),
        lambda: _zombies(root, mend),
    )
    return [look() for look in looks]


def _store(root: Path) -> Finding:
    try:
        ArtifactStore(root)  # sweeps drafts of dead runs
    except StoreError as error:
        return Finding("store", False, error.found, error.next_step)
    return Finding("store", True, f"{root} can be written")


def _disk(root: Path) -> Finding:
    here = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(here).free / 1e9
    remedy = "" if free >= FREE_GB else "thinkrec artifacts gc, or THINKREC_HOME on a larger disk"
    return Finding("disk", free >= FREE_GB, f"{free:.1f} GB free below {here}", remedy)


def _gpu() -> Finding:
    tool = shutil.which("nvidia-smi")
    if tool is not None:
        query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        result = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
        if result.returncode == 0 and result.stdout.strip():
            return Finding("gpu", True, "; ".join(result.stdout.strip().splitlines()))
        return Finding(
            "gpu", False, f"nvidia-smi fails ({one_line(result.stdout + result.stderr, 120)})", "see the driver"
        )
    return Finding("gpu", True, f"none; runs use {len(os.sched_getaffinity(0))} CPU cores")


def _teacher(teacher: TeacherConfig) -> Finding:
    if teacher.base_url in (LOCAL, JOURNAL):
        said = {LOCAL: "a local server, started by the run", JOURNAL: "the journal alone; nobody is asked"}
        return Finding("teacher", True, said[teacher.base_url])
    url = f"{teacher.base_url.rstrip('/')}/models"
    key = os.environ.get(teacher.api_key_env, "")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):
            return Finding("teacher", True, f"{teacher.base_url} answers")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            told = f"{teacher.base_url} refuses the key in {teacher.api_key_env}"
            return Finding("teacher", False, f"{told} (HTTP {error.code})", f"export {teacher.api_key_env}=...")
        return Finding("teacher", True, f"{teacher.base_url} answers (HTTP {error.code} for its list of models)")
    except (OSError, ValueError) as error:
        reason = one_line(str(getattr(error, "reason", error)), 120)
        return Finding("teacher", False, f"{teacher.base_url} does not answer ({reason})", "check teacher.base_url")


def _leftovers(root: Path, mend: bool) -> Finding:
    """Placeholders and partial files of killed runs, and MLflow locks that nobody holds; only while no run is going on."""
    if not root.is_dir():
        return Finding("leftovers", True, "none")
    try:
        with ArtifactStore(root).in_use(alone=True):
            empty = [path for path in runs_folder(root).glob("*.json") if not path.stat().st_size]
            partial = [*runs_folder(root).glob("*.partial"), *root.glob("*.partial")]
            locks = [path for path in (root / "locks").glob("mlflow-run-*") if _free(path)]
            if mend:
                for path in [*empty, *partial]:
                    path.unlink(missing_ok=True)
    except StoreError:
        return Finding("leftovers", True, "not looked for: a run is going on")
    found = ", ".join(
        f"{len(paths)} {what}" for paths, what in ((empty, "names of killed runs"), (partial, "partial files")) if paths
    )
    open_runs = f"{len(locks)} killed runs are open in MLflow, the next run closes them" if locks else ""
    text = "; ".join(part for part in (found, open_runs) if part) or "none"
    return Finding(
        "leftovers", mend or not found, text, ("removed" if mend else "thinkrec doctor --mend") if found else ""
    )


def _free(path: Path) -> bool:
    try:
        with path.open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _daemon(root: Path, name: str) -> Finding:
    daemon = find_daemon(root, name)
    if daemon is None:
        return Finding(name, True, "not started")
    if not daemon.alive:
        return Finding(name, False, f"ended; log {daemon.log}", "thinkrec up")
    return Finding(name, True, f"running, pid {daemon.pid}")


def _zombies(root: Path, mend: bool) -> Finding:
    api, worker = api_url(root), find_daemon(root, WORKER)
    if api is None or not answers(f"{api}/health"):
        return Finding("zombies", True, "not looked for: no Prefect server")
    if worker is not None and worker.alive:
        return Finding("zombies", True, "none: the worker lives")
    try:
        count = crash_zombies(api, POOL) if mend else len(zombies(api, POOL))
    except PlatformError as error:
        return Finding("zombies", False, error.found, error.next_step)
    remedy = ("marked as crashed" if mend else "thinkrec doctor --mend, or thinkrec up") if count else ""
    return Finding("zombies", mend or not count, f"{count} runs without a worker" if count else "none", remedy)
