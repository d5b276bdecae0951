"""Child of test_disk_faults: builds a stage again and again, with its N-th disk change failing.

The stage is one of the smoke preset, or `plain`, which needs neither data nor a model.

Prints one JSON line: {"writes": N, "told": {errno name: messages}, "bad": [what went wrong]}.
"""

from __future__ import annotations

import ctypes
import errno
import json
import logging
import shutil
import sys
from pathlib import Path

from prefect.client.schemas.objects import State

from flows.config import load_config
from storage.store import ArtifactRef, ArtifactStore, Draft
from storage.tracking import NullTracker, StageTracker
from tasks.stage import RunContext, run_stage
from tasks.view import View
from thinkrec_core.errors import ThinkRecError

logging.disable(logging.CRITICAL)
CONFIG = load_config("smoke")
disk = ctypes.CDLL(sys.argv[1])
disk.failing_disk_arm.restype = ctypes.c_long


def arm(folder: Path | str, at: int, code: int = 0) -> int:
    return int(disk.failing_disk_arm(str(folder).encode(), ctypes.c_long(at), code))


def plain(context: RunContext) -> ArtifactRef | State[ArtifactRef]:
    def build(draft: Draft, tracker: StageTracker) -> None:
        (draft.scratch / "state").write_text("state")
        (draft.path / "sub").mkdir()
        (draft.path / "sub" / "file").write_text("content")
        (draft.telemetry / "times").write_text("1")

    return run_stage(context, "plain", build, inputs={}, settings={})


def run(root: Path, last: str) -> dict[str, ArtifactRef]:
    """Stages up to `last`, as the pipeline runs them."""
    context = RunContext(CONFIG, ArtifactStore(root), NullTracker(), View())
    refs: dict[str, ArtifactRef] = {}

    def keep(name: str, result: ArtifactRef | State[ArtifactRef]) -> bool:
        refs[name] = result if isinstance(result, ArtifactRef) else result.data
        return name == last

    if last == "plain":
        keep("plain", plain(context))
        return refs
    from tasks.cluster_users import cluster_users
    from tasks.collect_wrong import collect_wrong_predictions
    from tasks.prepare_data import prepare_data
    from tasks.train_encoder import train_encoder

    if keep("data", prepare_data.fn(context)) or keep("encoder", train_encoder.fn(context, refs["data"])):
        return refs
    if keep("clusters", cluster_users.fn(context, refs["data"], refs["encoder"])):
        return refs
    keep("wrong_predictions", collect_wrong_predictions.fn(context, refs["data"], refs["encoder"], None))
    return refs


def main() -> None:
    root, stage = Path(sys.argv[2]), sys.argv[3]
    last = "plain" if stage == "plain" else "wrong_predictions"
    expected = run(root, last)
    mine = root / "artifacts" / stage
    shutil.rmtree(mine)
    arm(root, 0)
    run(root, stage)
    writes = arm("", 0)
    told: dict[str, set[str]] = {}
    bad = []
    for code in [getattr(errno, name) for name in sys.argv[4:]]:
        for at in range(1, writes + 1):
            shutil.rmtree(mine, ignore_errors=True)
            arm(root, at, code)
            try:
                run(root, stage)
                failed = False
            except ThinkRecError as error:
                failed = True
                told.setdefault(errno.errorcode[code], set()).add(str(error))
            except Exception as error:
                failed = True
                bad.append(f"{errno.errorcode[code]} at {at}: {type(error).__name__}: {error}")
            arm("", 0)
            if run(root, last) != expected:
                bad.append(f"{errno.errorcode[code]} at {at}: the rerun differs")
            left = [path.name for path in (root / "building").iterdir()]
            if left:
                bad.append(f"{errno.errorcode[code]} at {at}: left {left}")
            if not failed and at < writes - 2:
                bad.append(f"{errno.errorcode[code]} at {at}: nothing was told")
    print(json.dumps({"writes": writes, "told": {k: sorted(v) for k, v in told.items()}, "bad": bad}))


if __name__ == "__main__":
    main()
