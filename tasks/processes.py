"""Child processes of a run that never outlive it: the training worker, the teacher server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tasks import supervisor

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TAIL_BYTES = 65536


class Child:
    """A running command under a supervisor of its own; make one with `Child.start`.

    The child sits in a session of its own, so Ctrl-C reaches the run alone and the run decides. If the run dies, by
    kill -9 too, the supervisor ends the child and everything the child started. As a context manager it stops the child
    on exit.
    """

    def __init__(self, supervised: subprocess.Popen[bytes], log: Path) -> None:
        self._supervised = supervised
        self.log = log

    @classmethod
    def start(
        cls, command: list[str], log: Path, env: Mapping[str, str] | None = None, held: Sequence[int] = ()
    ) -> Self:
        """A running `command`, its output appended to `log`.

        Args:
            command: program and arguments; the program is looked up on PATH. One that cannot be started gives exit
                code 127 and a line in the log.
            log: file for standard output and error together; its folder is created.
            env: the whole environment; None inherits that of this process.
            held: descriptors of locks that stay held until the supervisor and the child have ended.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        # By file and isolated: neither the working folder nor PYTHONPATH of the run can get in the supervisor's way.
        wrapped = [sys.executable, "-I", "-S", str(Path(supervisor.__file__).resolve()), *command]
        with log.open("ab") as output:
            supervised = subprocess.Popen(
                wrapped,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                start_new_session=True,
                pass_fds=held,
            )
        return cls(supervised, log)

    @property
    def pid(self) -> int:
        """Process id of the supervisor; the child is its only direct child."""
        return self._supervised.pid

    def poll(self) -> int | None:
        """The exit code, or None while the child runs; 128 + n if signal n ended it."""
        return self._supervised.poll()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one.

        Raises:
            TimeoutError: the child still runs after `timeout` seconds.
        """
        try:
            return self._supervised.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s") from None

    def stop(self) -> int:
        """The exit code after ending the child and all that it started: SIGTERM, five seconds, SIGKILL."""
        if self._supervised.stdin is not None:
            self._supervised.stdin.close()
        return self._supervised.wait()

    def log_tail(self, lines: int = 5) -> str:
        """The last `lines` lines of the log that are not blank, without colour codes; "" if there are none."""
        try:
            with self.log.open("rb") as handle:
                size = handle.seek(0, 2)
                handle.seek(max(0, size - _TAIL_BYTES))
                text = handle.read().decode(errors="replace")
        except OSError:
            return ""
        kept = [line.rstrip() for line in _ANSI.sub("", text).splitlines() if line.strip()]
        return "\n".join(kept[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
