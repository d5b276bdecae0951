"""Child of test_disk_faults: runs the preset `kill` again and again without one stage, the disk refusing from a change N on.

    LD_PRELOAD=LIBRARY FAILING_DISK_STATE=FILE FAILING_DISK_LOG=FILE \\
        python -m failing_disk_run LIBRARY FOLDER STAGE TRIES WORKER CODE ...

Changes are counted over the run and its worker together. TRIES of them are tried, spread evenly, and the codes in turn; 0 tries
every one, but of those of the catalog, behind the run, the first and the last.
WORKER is `real`, or `forked`: a fork of this process, which saves the imports. Prints one JSON line:
{"writes": N, "tries": N, "told": [messages], "bad": [what went wrong]}.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import itertools
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Self

from benchmarks.kill.attempts import TOLD, plain, preload
from benchmarks.kill.world import ScriptedTeacher, make_world
from storage.catalog import manifests
from tasks import train_llm

CATALOG = "/catalog.duckdb"
disk = ctypes.CDLL(sys.argv[1])


class ForkedWorker:
    """The training worker as a fork of the run, in the place of `tasks.processes.Child`."""

    def __init__(self, pid: int) -> None:
        self.pid, self.code = pid, None

    @classmethod
    def start(cls, command: list[str], log: Path, env: dict[str, str], held: list[int]) -> Self:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if pid := os.fork():
            os.close(output)
            return cls(pid)
        code = 1
        try:
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.argv = ["train", command[-1]]
            from tasks.worker.train import main as train

            code = train()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        if self.code is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if found else None
        return self.code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        while self.poll() is None:
            pass


def arm(folder: Path | str, at: int, code: int = 0) -> None:
    disk.failing_disk_arm(f"{folder}/".encode() if folder else b"", ctypes.c_long(at), code)


def published(root: Path) -> dict[tuple[str, str], str]:
    return {(values["stage"], values["key"]): values["digest"] for _, values in manifests(root)}


def chosen(changes: list[str], tries: int) -> list[int]:
    """Which changes fail, counted from 1."""
    if tries:
        return [1 + int((at + 0.5) * len(changes) / tries) for at in range(tries)]
    stage = next(at for at, change in enumerate(changes) if CATALOG in change)
    return [*range(1, stage + 2), len(changes)]


def main() -> None:
    folder, stage, tries, worker = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
    preload()
    if worker == "forked":
        importlib.import_module("tasks.worker.train")
        train_llm.Child, train_llm.POLL_SECONDS = ForkedWorker, 0.01  # type: ignore[assignment,misc]
    root, told, bad, done = folder / "store", set(), [], 0
    log, changes_log = root.with_suffix(".log"), Path(os.environ["FAILING_DISK_LOG"])
    with ScriptedTeacher() as teacher:
        world = {**make_world(folder), "teacher.base_url": teacher.url}

        def run() -> int:
            log.unlink(missing_ok=True)
            return plain(root, world).wait()

        def forget() -> None:
            for part in ("artifacts", "scratch"):
                shutil.rmtree(root / part / stage, ignore_errors=True)

        assert run() == 0, log.read_text()
        expected = published(root)
        forget()
        arm(root, 0)
        changes_log.write_text("")
        assert run() == 0, log.read_text()
        arm("", 0)
        changes = changes_log.read_text().splitlines()
        for at, code in zip(chosen(changes, tries), itertools.cycle(sys.argv[6:])):
            done += 1
            forget()
            number, place = getattr(errno, code), f"{code} at {at}, {changes[at - 1]}"
            arm(root, at, number)
            ended = run()
            arm("", 0)
            lines = log.read_text().splitlines()
            if ended == TOLD and len(lines) == 1 and os.strerror(number) in lines[0]:
                told.add(lines[0])
            elif ended or stage not in {name for name, _ in published(root)}:
                bad.append(f"{place}: exit code {ended}: {lines[-1:]}")
            if run():
                bad.append(f"{place}: the rerun failed: {log.read_text()[-500:]}")
            elif published(root) != expected:
                bad.append(f"{place}: the rerun differs")
            bad += [f"{place}: left {path.name}" for path in (root / "building").iterdir()]
    print(json.dumps({"writes": len(changes), "tries": done, "told": sorted(told), "bad": bad}))


if __name__ == "__main__":
    main()
