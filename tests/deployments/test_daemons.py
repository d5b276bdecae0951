from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from deployments.daemons import Daemon, find_daemon, start_daemon, stop_daemon
from thinkrec_core.errors import PlatformError

SLEEP = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time, signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0));"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True);"
    "print(child.pid, flush=True); time.sleep(60)",
]


def wait_for_output(daemon: Daemon) -> str:
    for _ in range(200):
        if text := Path(daemon.log).read_text():
            return text
        time.sleep(0.05)
    raise AssertionError("the daemon says nothing")


def test_a_daemon_is_found_again_and_ended(tmp_path: Path) -> None:
    started = start_daemon(tmp_path, "one", SLEEP, os.environ, 1234, tmp_path)
    try:
        assert wait_for_output(started) == "ready\n"
        assert find_daemon(tmp_path, "one") == started
        assert started.alive
        assert os.getsid(started.pid) == started.pid  # no Ctrl-C of this terminal reaches it
    finally:
        assert stop_daemon(tmp_path, "one")
    assert not started.alive
    assert find_daemon(tmp_path, "one") is None
    assert not stop_daemon(tmp_path, "one")


def test_what_a_daemon_started_ends_with_it(tmp_path: Path) -> None:
    started = start_daemon(tmp_path, "parent", PARENT, os.environ, None, tmp_path)
    child = psutil.Process(int(wait_for_output(started)))
    assert stop_daemon(tmp_path, "parent")
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running()


def test_another_process_under_the_same_pid_is_not_the_daemon(tmp_path: Path) -> None:
    own = psutil.Process()
    stranger = Daemon("x", own.pid, own.create_time() - 100, None, "", [])
    assert not stranger.alive
    assert not stranger.stop()


def test_a_damaged_record_is_no_daemon(tmp_path: Path) -> None:
    (tmp_path / "platform").mkdir()
    (tmp_path / "platform" / "x.json").write_text('{"name": "x"')
    assert find_daemon(tmp_path, "x") is None


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="x cannot be started"):
        start_daemon(tmp_path, "x", ["/no/such/program"], os.environ, None, tmp_path)
