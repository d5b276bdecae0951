"""Seconds and memory of a whole run in an empty store, and of the same command again.

    python benchmarks/quickstart.py [--preset quickstart]

Memory is the sum of the resident sets of all processes of the run (flow, server, teacher, worker), sampled every half second;
pages that processes share are counted for each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.5


def main() -> None:
    """Run twice and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="quickstart")
    preset = parser.parse_args().preset
    with tempfile.TemporaryDirectory() as folder:
        first = measured(preset, Path(folder))
        again = measured(preset, Path(folder))
    summary = first["summary"]
    print(
        json.dumps(
            {
                "preset": preset,
                "seconds": first["seconds"],
                "seconds_again": again["seconds"],
                "peak_rss_gb": first["peak_rss_gb"],
                "rows": summary["rows"],
                "accepted": summary["reflections"]["accepted"],
                "stages": {name: stage["seconds"] for name, stage in summary["stages"].items()},
                "cached_again": all(s["status"] == "cached" for s in again["summary"]["stages"].values()),
                "rungs": {
                    name: {key: rung[key] for key in ("auc", "auc_ci", "uauc", "uauc_ci")}
                    for name, rung in summary["rungs"].items()
                },
            }
        )
    )


def measured(preset: str, home: Path) -> dict[str, Any]:
    """Wall seconds, peak memory and summary of one run in the store `home`."""
    environment = {**os.environ, "THINKREC_HOME": str(home), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [str(Path(sys.executable).parent / "thinkrec"), "run", "--preset", preset, "--json"]
    start, peak = time.monotonic(), 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as run:
        while run.poll() is None:
            peak = max(peak, resident(home))
            time.sleep(SAMPLE_SECONDS)
        assert run.stdout is not None
        output = run.stdout.read()
    if run.returncode:
        sys.exit(f"the run failed with exit code {run.returncode}")
    seconds = round(time.monotonic() - start, 1)
    return {"seconds": seconds, "peak_rss_gb": round(peak / 1e9, 2), "summary": json.loads(output)}


def resident(home: Path) -> int:
    """Bytes resident in all processes of the run: they share its THINKREC_HOME, even in sessions of their own."""
    total = 0
    for process in psutil.process_iter():
        try:
            if process.environ().get("THINKREC_HOME") == str(home):
                total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    main()
