"""`thinkrec up` and `down`: servers, work pool, deployment and worker, and what lets any shell of this venv find them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deployments.daemons import Daemon, find_daemon, start_daemon, stop_daemon
from deployments.environment import platform_environment
from deployments.prefect_rest import call
from deployments.servers import MLFLOW, PREFECT, WORKER, Addresses, start_servers
from deployments.zombies import crash_zombies
from storage.home import prefect_home, runs_folder
from thinkrec_core.errors import PlatformError, one_line

POOL = "thinkrec"
POOL_VARIABLE = "THINKREC_POOL"
"""What prefect.yaml reads the name of the pool from."""
DEPLOYMENT = "thinkrec/full"
HOOK = "thinkrec_platform.pth"
"""A file in site-packages that every Python of this venv reads at its start."""

Say = Callable[[str], None]


def up(root: Path, prefect_port: int, mlflow_port: int, say: Say) -> Addresses:
    """The addresses of the running platform: both servers, the deployments of prefect.yaml, and a worker for them.

    What runs already stays as it is. Runs that a dead worker left behind are marked as crashed, since each of them would
    hold the deployment's only slot for ever.

    Raises:
        PlatformError: a port is in use, a server does not come up, or Prefect refuses the deployment.
    """
    project = project_folder()
    say("starting Prefect and MLflow")
    found = start_servers(root, prefect_port, mlflow_port)
    environment = {**platform_environment(root), "PREFECT_API_URL": found.api, POOL_VARIABLE: POOL}
    say(f"deploying {DEPLOYMENT} and its parts")
    _prefect(["work-pool", "create", POOL, "--type", "process", "--overwrite"], environment, project)
    call(f"{found.api}/work_pools/{POOL}", {"concurrency_limit": 1}, "PATCH")
    _prefect(["deploy", "--all", "--prefect-file", str(project / "prefect.yaml")], environment, project)
    worker = find_daemon(root, WORKER)
    if worker is None or not worker.alive:
        crash_zombies(found.api, POOL)
        _start_worker(root, environment)
    _announce(root, found.api)
    return found


def down(root: Path) -> list[str]:
    """The names of the daemons that were ended, the worker first so that no server is missed by it."""
    hook = _hook()
    with contextlib.suppress(OSError):
        if repr(str(prefect_home(root))) in hook.read_text():  # another store's platform keeps its own
            hook.unlink()
    return [name for name in (WORKER, PREFECT, MLFLOW) if stop_daemon(root, name)]


def status(root: Path) -> dict[str, Any]:
    """What is known below `root`: store, daemons (name, alive, pid, port, log), and the last ten finished runs."""
    daemons = [find_daemon(root, name) for name in (PREFECT, MLFLOW, WORKER)]
    finished = [path for path in runs_folder(root).glob("*.json") if path.stat().st_size]
    newest = sorted(finished, key=lambda path: path.stat().st_mtime, reverse=True)[:10]
    return {
        "store": str(root),
        "daemons": [
            {"name": each.name, "alive": each.alive, "pid": each.pid, "port": each.port, "log": each.log}
            for each in daemons
            if each is not None
        ],
        "runs": [path.stem for path in newest],
    }


def project_folder() -> Path:
    """The folder of prefect.yaml, which is that of the packages in a checkout.

    Raises:
        PlatformError: the package was installed without the repository.
    """
    folder = Path(__file__).resolve().parents[1]
    if not (folder / "prefect.yaml").is_file():
        raise PlatformError(
            f"{folder} has no prefect.yaml", "a checkout of the repository", "install it with pip install -e ."
        )
    return folder


def _start_worker(root: Path, environment: dict[str, str]) -> Daemon:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    # By default a worker asks for work every ten seconds only.
    return start_daemon(root, WORKER, command, {**environment, "PREFECT_WORKER_QUERY_SECONDS": "2"}, None, root)


def _prefect(arguments: list[str], environment: dict[str, str], project: Path) -> None:
    """Run Prefect's own command line.

    Raises:
        PlatformError: it fails; with the last line that it said.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    result = subprocess.run(
        command, env=environment, cwd=project, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if result.returncode:
        lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
        raise PlatformError(
            f"prefect {' '.join(arguments[:2])} failed ({one_line(lines[-1] if lines else 'no output')})"
        )


def _announce(root: Path, api: str) -> None:
    """Let every `prefect` of this venv find the API, in whatever folder it is called.

    Prefect reads its address from a profile below PREFECT_HOME, and PREFECT_HOME from the environment. The hook sets the
    latter for each Python of the venv that has no other; a variable that the user sets wins over both.

    Raises:
        PlatformError: the venv cannot be written.
    """
    home = prefect_home(root)
    profile = f'active = "thinkrec"\n\n[profiles.thinkrec]\nPREFECT_API_URL = "{api}"\n'
    defaults = {"PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"}
    # A line of a .pth file that begins with "import" is executed; the folder must still be there.
    code = f"import os; os.path.isdir({str(home)!r}) and "
    code += f"[os.environ.setdefault(n, v) for n, v in {defaults!r}.items()]\n"
    try:
        (home / "profiles.toml").write_text(profile)
        _hook().write_text(code)
    except OSError as error:
        raise PlatformError(
            f"{error.filename} cannot be written ({error.strerror})",
            "a virtual environment of your own",
            f"the platform runs; export PREFECT_API_URL={api} to use it",
        ) from None


def _hook() -> Path:
    return Path(sysconfig.get_path("purelib")) / HOOK
