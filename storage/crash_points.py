"""Named places at which a test can have this process killed, to prove that the next run finishes the work.

`reached("general/publish.renamed")` does nothing, at the cost of one dictionary look-up, unless THINKREC_CRASH_AT is set in
the environment. That variable is for benchmarks/kill_anywhere.py and for tests. Its value is

    NAME          kill this process with SIGKILL the first time that NAME is reached
    NAME*N        the N-th time (counted within one process)
    NAME@RANK     only in the process whose RANK is that number

A kill is what the rest of the product is built to survive, so a variable left set by mistake stops runs and harms nothing.
With THINKREC_CRASH_LOG=FILE each point that is reached is appended to FILE, which is how the benchmark learns their names.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

AT, LOG = "THINKREC_CRASH_AT", "THINKREC_CRASH_LOG"
_passed: Counter[str] = Counter()


def reached(name: str) -> None:
    """Kill this process if the environment names this place."""
    if log := os.environ.get(LOG):
        with open(log, "a", encoding="utf-8") as handle:
            handle.write(f"{name}\n")
    wanted = os.environ.get(AT)
    if wanted is None:
        return
    wanted, _, rank = wanted.partition("@")
    wanted, _, count = wanted.partition("*")
    if wanted != name or (rank and rank != os.environ.get("RANK", "0")):
        return
    _passed[name] += 1
    if _passed[name] == int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
