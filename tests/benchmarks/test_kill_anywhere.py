"""The kill benchmark in its short form, and that it would tell of a store that does not keep its word."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.kill_anywhere import chosen, points_of

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_anywhere.py"
FORGETFUL = """
import os, shutil
from storage.store import ArtifactStore
find, publish = ArtifactStore.find, ArtifactStore.publish

def forgets(self, stage, key):  # in the runs, not in the comparison afterwards
    return None if stage == "data" and "THINKREC_HOME" in os.environ else find(self, stage, key)

def overwrites(self, draft, stage, key, facts):
    shutil.rmtree(self._folder(stage, key), ignore_errors=True)
    return publish(self, draft, stage, key, facts)

ArtifactStore.find, ArtifactStore.publish = forgets, overwrites
"""
FICKLE = """
import os
import tasks.cluster_users as module
summary = module._routing_summary
module._routing_summary = lambda *arguments: {**summary(*arguments), "process": os.getpid()}
"""


def bench(*arguments: str, prelude: str = "") -> tuple[int, dict[str, int]]:
    """Exit code and result of the script in its short form; `prelude` is executed before it."""
    told = f"import runpy, sys\nsys.argv[1:] = {['--short', *arguments]!r}\n"
    script = f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    command = [sys.executable, "-c", f"{told}\nsys.path.insert(0, '.')\n{prelude}\n{script}"]
    done = subprocess.run(command, cwd=SCRIPT.parents[1], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_killed_at_points_of_the_first_stages_and_run_again_nothing_differs() -> None:
    assert bench("--points", "2", "--times", "0") == (0, {"points": 2, "unequal": 0, "recomputed": 0})


@pytest.mark.slow
def test_a_stage_that_is_computed_again_is_found_out() -> None:
    code, result = bench("--points", "3", "--times", "0", prelude=FORGETFUL)
    assert (code, result["recomputed"]) == (1, 3)


@pytest.mark.slow
def test_a_stage_that_differs_from_run_to_run_is_found_out() -> None:
    code, result = bench("--points", "48", "--times", "0", prelude=FICKLE)
    assert code == 1
    assert result["unequal"] > 4


def test_a_point_that_is_passed_often_is_tried_twice() -> None:
    assert points_of(["a/x", "b/y", "b/y", "b/y", "a/x"]) == ["a/x", "b/y", "b/y*2"]


def test_few_points_are_spread_and_more_begin_with_those_around_publications() -> None:
    points = ["a/x", "a/publish.sealed", "a/publish.renamed", "b/x", "b/y"]
    assert chosen(points, 2) == ["a/publish.sealed", "b/x"]
    assert chosen(points, 3) == ["a/publish.sealed", "a/publish.renamed", "b/x"]
    assert chosen(points, 9) == points
