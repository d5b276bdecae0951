"""Killed with -9 anywhere and run again, a run ends with the artifacts of an undisturbed one and computes nothing twice.

    python benchmarks/kill_anywhere.py [--points 80] [--times 20] [--flow 10] [--ranks 6] [--short]

Each try kills one run at one place: `--points` of the named crash points that an undisturbed run of the preset `kill` passes
(storage/crash_points.py; about 118), those right before and after each publication and others evenly, in the run's own process
and in the training worker, as plain task functions; `--flow` of them through `thinkrec run` with Prefect and MLflow; `--ranks`
points in ranks of a training with two of them; `--times` kills of a random process of the run at a random time, from an empty
store. The run is started again at once. Then all artifacts must be there, whole, with the digests of the undisturbed run;
whatever had been published must have been read and not computed; and neither drafts nor processes may be left.

`--short` kills the stages that need no language model. Keys: points, unequal, recomputed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

# Before torch is loaded: products this small are done before a second thread has woken up.
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kill.attempts import KILLED, TOLD, Attempt, flow, orphans, plain, preload
from benchmarks.kill.world import ScriptedTeacher, make_world
from storage.catalog import manifests, summaries
from storage.crash_points import AT, LOG
from storage.store import ArtifactStore

RANKS = {"training.engine.backend": "deepspeed", "training.engine.world_size": 2}
RANK_POINTS = (
    "general/lora.stepped*2@1",
    "worker/checkpoint.saved*2@0",
    "general/lora.checkpoint*3@1",
    "general/projector.stepped@0",
    "general/worker.opened@1",
    "general/projector.finished@1",
)
PUBLICATION = ("publish.sealed", "publish.renamed")
"""Ends of the names of the points right before and after an artifact appears: all of them are tried first."""
ORPHAN_SECONDS = 10.0
Start = Callable[..., Attempt]
Published = dict[tuple[str, str], str]


@dataclass
class Verdict:
    """What the tries so far have shown."""

    points: int = 0
    unequal: list[str] = field(default_factory=list)
    recomputed: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The benchmark's result."""
        return json.dumps({"points": self.points, "unequal": len(self.unequal), "recomputed": len(self.recomputed)})


class Bench:
    """Tries in stores below `folder`, each compared with an undisturbed run."""

    def __init__(self, folder: Path, overrides: dict[str, Any], short: bool) -> None:
        self.folder, self.overrides, self.short = folder, overrides, short
        self.verdict, self.began = Verdict(), time.monotonic()

    def calm(
        self, name: str, overrides: dict[str, Any], start_from: Path | None = None
    ) -> tuple[Path, list[str], float]:
        """An undisturbed run: its store, the points that it passed, its seconds."""
        root, log = self.folder / name, self.folder / f"{name}.points"
        if start_from is not None:
            _copy(start_from, root, {"general", "expert", "evaluation", "report"})
        began = time.monotonic()
        code = self.plain(root, overrides, **{LOG: str(log)}).wait()
        if code:
            sys.exit(f"the undisturbed run failed with exit code {code}: {root.with_suffix('.log').read_text()}")
        return root, log.read_text().split(), time.monotonic() - began

    def plain(self, root: Path, overrides: dict[str, Any], **environment: str) -> Attempt:
        """A try without a Prefect server."""
        return plain(root, overrides, self.short, **environment)

    def at_point(self, calm: Path, point: str, start: Start, overrides: dict[str, Any]) -> None:
        """Kill at `point` in a store that lacks only its stage; run again; compare."""
        stage = re.sub(r"_\d+$", "", point.partition("/")[0])  # experts are one stage
        root = self.folder / f"try-{self.verdict.points}"
        _copy(calm, root, {"general" if stage == "worker" else stage})
        code = start(root, overrides, **{AT: point}).wait()
        if code not in (KILLED, TOLD):
            self.verdict.unequal.append(f"{point}: was not reached (exit code {code})")
        self._again(calm, root, point, start, overrides)

    def at_time(self, calm: Path, seconds: float, draw: random.Random, overrides: dict[str, Any]) -> None:
        """Kill a random process of a run from nothing after a random time; run again; compare."""
        root = self.folder / f"try-{self.verdict.points}"
        attempt, moment = self.plain(root, overrides), draw.uniform(0.2, seconds)
        deadline = time.monotonic() + moment
        while time.monotonic() < deadline and attempt.process.is_running():
            time.sleep(0.02)
        victim = draw.choice(attempt.family())
        what = "the run" if victim == attempt.process else "its worker"
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            what = "nothing"
        attempt.wait()
        self._again(calm, root, f"{what} at {moment:.1f} s", self.plain, overrides)

    def _again(self, calm: Path, root: Path, name: str, start: Start, overrides: dict[str, Any]) -> None:
        kept = set(_published(root))
        code = start(root, overrides).wait()
        found = self.verdict
        found.points += 1
        if code:
            log = root.with_suffix(".log").read_text().strip().splitlines()
            found.unequal.append(f"{name}: the rerun ended with exit code {code}: {log[-1] if log else ''}")
        else:
            if _whole(root) != _whole(calm):
                found.unequal.append(f"{name}: other artifacts")
            _, summary = summaries(root)[-1]
            made = {label: (ref["stage"], ref["key"]) for label, ref in summary["artifacts"].items()}
            ran = {made[label] for label, result in summary["stages"].items() if result["status"] == "ran"}
            found.recomputed += [f"{name}: {stage}" for stage, _ in sorted(kept & ran)]
        left = [path.name for path in (root / "building").iterdir()] + _orphans(root)
        found.unequal += [f"{name}: left {each}" for each in left]
        seconds = time.monotonic() - self.began
        print(f"{seconds:5.0f} s  {name:<40} {len(kept):2} kept  {found.line()}", file=sys.stderr, flush=True)
        shutil.rmtree(root)


def main() -> None:
    """Kill at points, in ranks, through the flow, and at random times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=80, help="of about 118; those around publications, others evenly")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--flow", type=int, default=10)
    parser.add_argument("--ranks", type=int, default=len(RANK_POINTS))
    parser.add_argument("--short", action="store_true", help="only stages that need no language model")
    given = parser.parse_args()
    preload(model=not given.short)
    with tempfile.TemporaryDirectory() as temporary, ScriptedTeacher() as teacher:
        folder = Path(temporary)
        bench = Bench(folder, {**make_world(folder, not given.short), "teacher.base_url": teacher.url}, given.short)
        run_all(bench, given)
    for each in [*bench.verdict.unequal, *(f"computed again: {each}" for each in bench.verdict.recomputed)]:
        print(each, file=sys.stderr)
    print(bench.verdict.line())
    sys.exit(bool(bench.verdict.unequal or bench.verdict.recomputed))


def run_all(bench: Bench, given: argparse.Namespace) -> None:
    """All tries that the command line asked for."""
    calm, passed, seconds = bench.calm("calm", bench.overrides)
    print(f"undisturbed: {seconds:.1f} s, {len(set(passed))} different points", file=sys.stderr)
    for point in chosen(points_of(passed), given.points):
        bench.at_point(calm, point, bench.plain, bench.overrides)
    draw = random.Random(7)
    for _ in range(given.times):
        bench.at_time(calm, 0.95 * seconds, draw, bench.overrides)
    if bench.short:
        return
    for point in chosen(points_of(passed), given.flow):
        bench.at_point(calm, point, flow, bench.overrides)
    if given.ranks:
        overrides = {**bench.overrides, **RANKS}
        ranked, _, _ = bench.calm("ranks", overrides, calm)
        for point in RANK_POINTS[: given.ranks]:
            bench.at_point(ranked, point, bench.plain, overrides)


def points_of(passed: list[str]) -> list[str]:
    """Each point once, and where one is passed three times or more by one stage its second time too."""
    counts = Counter(passed)
    points = []
    for name in dict.fromkeys(passed):
        points.append(name)
        if counts[name] > 2:
            points.append(f"{name}*2")
    return points


def chosen(points: list[str], count: int) -> list[str]:
    """`count` of `points` in their order: those around publications, and others spread evenly."""
    around = [point for point in points if point.endswith(PUBLICATION)]
    if count <= len(around):
        return _spread(points, count)
    others = [point for point in points if point not in around]
    kept = {*around, *_spread(others, count - len(around))}
    return [point for point in points if point in kept]


def _spread(points: list[str], count: int) -> list[str]:
    if count >= len(points):
        return points
    return [points[int((index + 0.5) * len(points) / count)] for index in range(count)]


def _copy(calm: Path, root: Path, without: set[str]) -> None:
    """The store `calm` without the artifacts of some stages, and without the journal where they are reflections."""
    shutil.copytree(
        calm / "artifacts", root / "artifacts", ignore=lambda at, names: _left_out(calm, at, names, without)
    )
    if "reflections" not in without and (calm / "journal").is_dir():
        shutil.copytree(calm / "journal", root / "journal")


def _left_out(calm: Path, at: str, names: list[str], without: set[str]) -> set[str]:
    return set(names) & without if Path(at) == calm / "artifacts" else set()


def _published(root: Path) -> Published:
    """Digest by stage and key of what is published, as the manifests tell."""
    return {(values["stage"], values["key"]): values["digest"] for _, values in manifests(root)}


def _whole(root: Path) -> Published:
    """As `_published`, after each artifact was read and compared with its digest."""
    store = ArtifactStore(root)
    found = {name: store.find(*name) for name in _published(root)}
    return {name: ref.digest if ref else "damaged" for name, ref in found.items()}


def _orphans(root: Path) -> list[str]:
    deadline = time.monotonic() + ORPHAN_SECONDS
    while (found := orphans(root)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


if __name__ == "__main__":
    main()
