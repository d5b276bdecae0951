"""The small process between a run and a child of it: whatever becomes of the run, the child and its offspring end.

    run --(pipe)--> supervisor --> child --> grandchildren

The supervisor's standard input is a pipe whose other end only the run holds. The kernel closes that end when the run
dies, even by kill -9, and the supervisor then ends everything below it: SIGTERM, five seconds, SIGKILL. It does so too
when the run closes the pipe on purpose, on SIGTERM, and with what a child leaves behind. PR_SET_PDEATHSIG in the run's
children would not do: it fires when the parent's thread ends, and does not reach grandchildren. The supervisor, which has
one thread, uses it for the case that it is killed itself: the kernel then sends SIGTERM to the child.

Only the standard library, and no import of this project: it starts in a few hundredths of a second as

    python -I -S tasks/supervisor.py COMMAND ARGUMENT ...

Its exit code is the child's; 128 + n if signal n ended the child, 127 if the command cannot be started.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_prctl = ctypes.CDLL(None, use_errno=True).prctl
_NOT_STARTED = 127


def main(command: list[str]) -> int:
    """The exit code of `command`, run until it ends or the run that holds the pipe does."""
    # Offspring whose parent died are handed to us instead of to init, so that they can still be found and ended.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    told_to_stop: list[int] = []
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGTERM, lambda number, frame: told_to_stop.append(number))
    try:
        started = _start(command)  # kept to the end: when it goes, it collects the exit code that we want
    except OSError as error:
        print(f"{command[0]} cannot be started ({error.strerror})", file=sys.stderr, flush=True)
        return _NOT_STARTED

    child, exits = started.pid, dict[int, int]()
    while child not in exits and not told_to_stop:
        readable, _, _ = select.select([0, wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
        _reap(exits)
        if 0 in readable and not os.read(0, 1):
            break
    _end_offspring(exits)
    status = exits.get(child, -signal.SIGKILL)
    return status if status >= 0 else 128 - status


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    def dies_with_us() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != own:  # killed before the line above
            os._exit(_NOT_STARTED)

    own = os.getpid()
    # The child must not read our pipe, and inherits the locks that are held for it.
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, close_fds=False, preexec_fn=dies_with_us
    )


def _reap(exits: dict[int, int]) -> None:
    """Collect the exit codes of all processes that ended, adopted ones included."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            return
        exits[process] = os.waitstatus_to_exitcode(status)


def _end_offspring(exits: dict[int, int]) -> None:
    """End every descendant. One that forks while it is being ended is met in the next round."""
    deadline = time.monotonic() + GRACE_SECONDS
    terminated: set[int] = set()
    while living := _descendants(os.getpid()):
        late = time.monotonic() > deadline
        for process in living:
            if late or process not in terminated:
                terminated.add(process)
                _send(process, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.02)
        _reap(exits)


def _send(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _descendants(root: int) -> list[int]:
    """Processes below `root`, whatever session or group they moved to."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as handle:
                    # The command name stands in brackets and may hold anything; two fields later comes the parent.
                    parent = int(handle.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
