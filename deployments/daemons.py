"""Processes that go on after the command that started them: each in a session of its own, remembered in a small file.

    platform/<name>.json      pid, the time the process began, port, log, command
    logs/<name>.log           its output

A pid alone proves nothing, since the kernel gives it away again; together with the time of its beginning it does.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from storage.home import logs_folder, platform_folder
from thinkrec_core.errors import PlatformError

GRACE_SECONDS = 15.0
"""Between asking a daemon to end and ending it."""


@dataclass(frozen=True)
class Daemon:
    """A process that was started in the background."""

    name: str
    pid: int
    began: float
    """Seconds since 1970, as the kernel tells it."""
    port: int | None
    log: str
    command: list[str]

    @property
    def alive(self) -> bool:
        """True while this very process runs."""
        return self._process() is not None

    def stop(self) -> bool:
        """End the process and everything below it; False if it had ended before."""
        process = self._process()
        if process is None:
            return False
        tree = [process, *_below(process)]
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()  # a server ends its own children in order
        psutil.wait_procs([process], timeout=GRACE_SECONDS)
        left = [each for each in {*tree, *(_below(process) if process.is_running() else ())} if each.is_running()]
        for each in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.terminate()
        _, stubborn = psutil.wait_procs(left, timeout=5.0)
        for each in stubborn:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(stubborn, timeout=5.0)
        return True

    def _process(self) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.began) < 1.0 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def start_daemon(
    root: Path, name: str, command: list[str], environment: Mapping[str, str], port: int | None, folder: Path
) -> Daemon:
    """The process of `command`, started in `folder` and remembered below the store at `root`.

    Raises:
        PlatformError: it cannot be started.
    """
    log = logs_folder(root) / f"{name}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        platform_folder(root).mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
    except OSError as error:
        raise PlatformError(f"{name} cannot be started below {root} ({error.strerror})") from None
    with contextlib.suppress(psutil.NoSuchProcess):
        began = psutil.Process(process.pid).create_time()
        daemon = Daemon(name, process.pid, began, port, str(log), command)
        target = _record(root, name)
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(daemon), indent=1) + "\n")
        partial.replace(target)
        return daemon
    raise PlatformError(f"{name} ended at once", next_step=f"see {log}")


def find_daemon(root: Path, name: str) -> Daemon | None:
    """The daemon remembered as `name`, whether it lives or not; None if there is none."""
    try:
        return Daemon(**json.loads(_record(root, name).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def stop_daemon(root: Path, name: str) -> bool:
    """End the daemon `name` and forget it; False if none lived."""
    daemon = find_daemon(root, name)
    stopped = daemon.stop() if daemon is not None else False
    _record(root, name).unlink(missing_ok=True)
    return stopped


def _below(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def _record(root: Path, name: str) -> Path:
    return platform_folder(root) / f"{name}.json"
