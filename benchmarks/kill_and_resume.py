"""A run that is killed with -9 while it trains, and run again, ends with the artifacts of an undisturbed run.

    python benchmarks/kill_and_resume.py [--preset smoke]

Both runs start from the same teacher journal, since a sampled teacher need not say the same twice.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil


def main() -> None:
    """Run undisturbed, run and kill and run again, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="smoke")
    preset = parser.parse_args().preset
    with tempfile.TemporaryDirectory() as folder:
        calm, killed = Path(folder) / "calm", Path(folder) / "killed"
        finish(start(preset, calm))
        killed.mkdir()
        shutil.copytree(calm / "journal", killed / "journal")
        run = start(preset, killed)
        wait_for_checkpoint(killed, run)
        run.send_signal(signal.SIGKILL)
        run.wait()
        time.sleep(10)
        orphans = sum(has_home(process, killed) for process in psutil.process_iter())
        before = set(published(killed))
        summary = finish(start(preset, killed))
        recomputed = [stage for stage in before if summary["stages"][stage]["status"] == "ran"]
        equal = published(calm) == published(killed)
    print(
        json.dumps({"digests_equal": equal, "recomputed": len(recomputed), "orphans": orphans, "kept": sorted(before)})
    )


def start(preset: str, home: Path) -> subprocess.Popen[str]:
    """A run in the store `home`."""
    environment = {**os.environ, "THINKREC_HOME": str(home), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [str(Path(sys.executable).parent / "thinkrec"), "run", "--preset", preset, "--json"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def finish(run: subprocess.Popen[str]) -> dict[str, Any]:
    """The summary of a run that must succeed."""
    output, _ = run.communicate()
    if run.returncode:
        sys.exit(f"the run failed with exit code {run.returncode}")
    summary: dict[str, Any] = json.loads(output)
    return summary


def wait_for_checkpoint(home: Path, run: subprocess.Popen[str]) -> None:
    """Return once the general training has its first checkpoint."""
    while not list(home.glob("scratch/general/*/*/latest.json")):
        if run.poll() is not None:
            sys.exit("the run ended before its first checkpoint")
        time.sleep(0.1)


def published(home: Path) -> dict[str, str]:
    """Digest of each published artifact by stage."""
    manifests = [json.loads(path.read_text()) for path in home.glob("artifacts/*/*/manifest.json")]
    return {manifest["stage"]: manifest["digest"] for manifest in manifests}


def has_home(process: psutil.Process, home: Path) -> bool:
    """Whether `process` belongs to the run in `home`."""
    try:
        return process.environ().get("THINKREC_HOME") == str(home)
    except psutil.Error:
        return False


if __name__ == "__main__":
    main()
