"""Seconds of an unchanged rerun once Prefect has been started: the whole process of `thinkrec run`, from exec to exit.

    python benchmarks/rerun.py [--repeat 5] [--profile]

The preset `kill` runs in an empty store, model registered; then the same command runs again, `--repeat` times, beside a Prefect
server that is up already. Every stage must be found in the store. `--profile` prints the slowest imports. Keys: seconds (median),
cpu_seconds (of that run: user and system), stages.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kill.world import ScriptedTeacher, make_world
from flows.prefect_api import PrefectAPI
from storage.home import ENVIRONMENT_VARIABLE

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = re.compile(r"import time:\s+\d+ \|\s+(\d+) \| (\s*)(\S+)")


def main() -> None:
    """Run once, then again and again, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="tell the slowest imports of one rerun on stderr")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ScriptedTeacher() as teacher:
        folder = Path(temporary)
        home = folder / "home"
        home.mkdir()
        os.environ[ENVIRONMENT_VARIABLE] = str(home)
        overrides = {**make_world(folder), "teacher.base_url": teacher.url, "rerun.promote": "true"}
        with PrefectAPI(home) as api:
            api.wait()
            variables = {**os.environ, "PREFECT_API_URL": api.url, "PYTHONPATH": str(ROOT)}
            print(f"first run: {run(overrides, variables)['seconds']:.1f} s", file=sys.stderr)
            found = [run(overrides, variables) for _ in range(given.repeat)]
            if given.profile:
                profile(overrides, variables)
    for each in found:
        print(f"again: {each['seconds']:.2f} s, {each['cpu_seconds']:.2f} CPU seconds", file=sys.stderr)
        if not each["all_cached"]:
            sys.exit("an unchanged rerun computed something")
    middle = sorted(found, key=lambda each: float(each["seconds"]))[len(found) // 2]
    seconds = statistics.median(each["seconds"] for each in found)
    print(json.dumps({"seconds": round(seconds, 2), "cpu_seconds": middle["cpu_seconds"], "stages": middle["stages"]}))


def run(overrides: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """Wall and CPU seconds of one `thinkrec run`, and whether it found everything."""
    before, start = os.times(), time.monotonic()
    done = subprocess.run(command(overrides), env=dict(variables), capture_output=True, text=True, check=False)
    seconds, after = time.monotonic() - start, os.times()
    if done.returncode:
        sys.exit(done.stderr)
    summary = json.loads(done.stdout.splitlines()[-1])
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "seconds": seconds,
        "cpu_seconds": round(used, 2),
        "all_cached": summary["all_cached"],
        "stages": len(summary["stages"]),
    }


def profile(overrides: Mapping[str, Any], variables: Mapping[str, str]) -> None:
    """Tell the slowest imports of one rerun."""
    told = subprocess.run(
        command(overrides),
        env={**variables, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    rows = [(int(micro), len(indent) // 2, name) for micro, indent, name in IMPORTS.findall(told)]
    for micro, depth, name in sorted(rows, reverse=True)[:40]:
        print(f"{micro / 1e6:7.2f} s  depth {depth:2}  {name}", file=sys.stderr)


def command(overrides: Mapping[str, Any]) -> list[str]:
    """`thinkrec run` of the preset with these fields."""
    given = [part for name, value in overrides.items() for part in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "flows.cli", "run", "--preset", "kill", "--json", *given]


if __name__ == "__main__":
    main()
