from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks import supervisor
from tasks.processes import Child

STUBBORN_FAMILY = """
import os, signal, subprocess, sys, time
# A grandchild in a session of its own, as torchrun starts its ranks.
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}\\n")
time.sleep(60)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # ended before the open, or between it and the read
        return True


def until(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def written(path: Path) -> bool:
    return path.exists() and path.read_text().endswith("\n")


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-c", *arguments]


def test_the_exit_code_and_the_output_come_through(tmp_path: Path) -> None:
    with Child.start(
        python("print('one\\n\\n\\x1b[31mtwo\\x1b[0m'); raise SystemExit(7)"), tmp_path / "a" / "log"
    ) as child:
        assert child.wait(10) == 7
    assert child.poll() == 7
    assert child.log_tail() == "one\ntwo"
    assert child.log_tail(1) == "two"


@pytest.mark.parametrize("code", [0, 1, 255])
def test_any_exit_code_comes_through(tmp_path: Path, code: int) -> None:
    assert Child.start(["sh", "-c", f"exit {code}"], tmp_path / "log").wait(10) == code


def test_a_child_that_a_signal_ended_has_code_128_plus_n(tmp_path: Path) -> None:
    assert Child.start(["sh", "-c", "kill -SEGV $$"], tmp_path / "log").wait(10) == 128 + signal.SIGSEGV


def test_a_command_that_does_not_exist_gives_127_and_a_line(tmp_path: Path) -> None:
    child = Child.start(["no-such-program-here"], tmp_path / "log")
    assert child.wait(10) == 127
    assert "no-such-program-here cannot be started" in child.log_tail()


def test_the_environment_is_the_one_given(tmp_path: Path) -> None:
    child = Child.start(["/bin/sh", "-c", "echo $A$HOME"], tmp_path / "log", {"A": "only"})
    assert child.wait(10) == 0
    assert child.log_tail() == "only"


def test_wait_gives_up_in_time_and_stop_reports_the_signal(tmp_path: Path) -> None:
    with Child.start(["sleep", "60"], tmp_path / "log") as child:
        assert child.poll() is None
        with pytest.raises(TimeoutError):
            child.wait(0.05)
        assert child.stop() == 128 + signal.SIGTERM
        assert child.stop() == 128 + signal.SIGTERM


def test_stop_ends_grandchildren_in_other_sessions(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with Child.start(python(STUBBORN_FAMILY, str(pids)), tmp_path / "log"):
        assert until(lambda: written(pids))
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_what_a_child_leaves_behind_is_ended(tmp_path: Path) -> None:
    child = Child.start(["sh", "-c", "sleep 60 & echo $!"], tmp_path / "log")
    assert child.wait(10) == 0
    assert gone(int(child.log_tail()))


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "impatient.py"
    script.write_text(Path(supervisor.__file__).read_text().replace("GRACE_SECONDS = 5.0", "GRACE_SECONDS = 0.3"))
    monkeypatch.setattr(supervisor, "__file__", str(script))
    ready = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    child = Child.start(python(ready), tmp_path / "log")
    assert until(lambda: child.log_tail() == "ready")
    assert child.stop() == 128 + signal.SIGKILL


def test_kill_9_of_the_run_ends_child_and_grandchild(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    run = f"""
import sys, time
from pathlib import Path
from tasks.processes import Child
child = Child.start([sys.executable, "-c", {STUBBORN_FAMILY!r}, {str(pids)!r}], Path({str(tmp_path / "log")!r}))
time.sleep(60)
"""
    root = Path(supervisor.__file__).parents[1]
    process = subprocess.Popen(python(run), cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        assert until(lambda: written(pids))
        family = [int(pid) for pid in pids.read_text().split()]
        assert not any(gone(pid) for pid in family)
    finally:
        process.kill()
        process.wait()
    assert until(lambda: all(gone(pid) for pid in family))


def test_sigterm_to_the_supervisor_ends_the_child(tmp_path: Path) -> None:
    child = Child.start(["sh", "-c", "echo $$; sleep 60"], tmp_path / "log")
    assert until(lambda: child.log_tail() != "")
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(10) == 128 + signal.SIGTERM
    assert gone(int(child.log_tail()))


def test_kill_9_of_the_supervisor_ends_the_child(tmp_path: Path) -> None:
    child = Child.start(["sh", "-c", "echo $$; sleep 60"], tmp_path / "log")
    assert until(lambda: child.log_tail() != "")
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(10) == -signal.SIGKILL
    assert until(lambda: gone(int(child.log_tail())))


def test_the_supervisor_imports_nothing_heavy() -> None:
    code = (
        "import sys, tasks.supervisor; print(*sorted({m.split('.')[0] for m in sys.modules} - sys.stdlib_module_names))"
    )
    root = Path(supervisor.__file__).parents[1]
    result = subprocess.run([sys.executable, "-S", "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) <= {"tasks", "__main__"}


HOLDER = """
import fcntl, sys, time
from pathlib import Path
from tasks.processes import Child
stubborn = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
with open(sys.argv[1], "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    Child.start([sys.executable, "-c", stubborn], Path(sys.argv[2]), held=[lock.fileno()])
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_lock_stays_held_until_the_child_of_a_killed_run_is_gone(tmp_path: Path) -> None:
    lock, log = tmp_path / "lock", tmp_path / "log"
    environment = {**os.environ, "PYTHONPATH": str(Path(supervisor.__file__).parents[1])}
    run = subprocess.Popen(python(HOLDER, str(lock), str(log)), env=environment)

    def free() -> bool:
        with lock.open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    assert until(lambda: written(log))
    run.kill()
    run.wait()
    assert not free()  # the child has been told to end and does not
    assert until(free, supervisor.GRACE_SECONDS + 5)
