"""What a change makes run again, two runs at once, and damage anywhere: on the preset `kill`, without a Prefect server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kill.world import ScriptedTeacher, make_world
from storage.code_digest import closure
from storage.store import MANIFEST, ArtifactStore
from thinkrec_core.report.render import PARTS, TEMPLATE

ROOT = Path(__file__).parents[2]
RUN = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from benchmarks.kill.attempts import plain
from storage.catalog import summaries
root, overrides = Path(sys.argv[2]), json.loads(sys.argv[3])
code = plain(root, overrides).wait()
print(json.dumps({"code": code, "stages": summaries(root)[-1][1]["stages"] if not code else {}}))
"""


class World:
    """Model, data and teacher; runs in stores of one's choice."""

    def __init__(self, folder: Path, teacher: str) -> None:
        self.overrides = {**make_world(folder), "teacher.base_url": teacher}

    def run(self, root: Path, code: Path = ROOT, **changed: Any) -> set[str]:
        """Names of the stages that ran."""
        overrides = self.overrides | {name.replace("__", "."): value for name, value in changed.items()}
        command = [sys.executable, "-c", RUN, str(code), str(root), json.dumps(overrides)]
        done = subprocess.run(command, cwd=code, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        assert result["code"] == 0, root.with_suffix(".log").read_text()
        return {name for name, stage in result["stages"].items() if stage["status"] == "ran"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ScriptedTeacher() as teacher:
        yield World(tmp_path_factory.mktemp("world"), teacher.url)


@pytest.fixture(scope="module")
def store(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one finished run."""
    root = tmp_path_factory.mktemp("stores") / "done"
    assert len(world.run(root)) == 10
    return root


def published(root: Path) -> dict[tuple[str, str], str]:
    manifests = [json.loads(path.read_text()) for path in root.glob(f"artifacts/*/*/{MANIFEST}")]
    return {(manifest["stage"], manifest["key"]): manifest["digest"] for manifest in manifests}


def test_the_look_of_the_report_is_no_part_of_any_other_stage() -> None:
    for module in ("prepare_data", "train_encoder", "distil_reflections", "train_llm", "cluster_users", "evaluate"):
        assert not [name for name in closure(f"tasks.{module}") if name.startswith("thinkrec_core.report")], module


@pytest.mark.slow
def test_another_colour_of_the_report_writes_the_report_again_and_nothing_else(
    world: World, store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(store, tmp_path / "store"))
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.py", "*.j2", "*.yaml"], cwd=ROOT,
                           capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    for name in names:
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    parts = [tmp_path / "thinkrec_core" / "report" / name for name in (TEMPLATE, *PARTS)]
    (part,) = [path for path in parts if "color: var(" in path.read_text()][:1]
    part.write_text(part.read_text().replace("color: var(", "color: #123456; color: var(", 1))
    assert world.run(store, tmp_path) == {"report"}


@pytest.mark.slow
def test_another_temperature_of_the_router_evaluates_again_and_nothing_else(
    world: World, store: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(store, tmp_path / "store"))
    assert world.run(store, experts__router__temperature=0.2) == {"evaluation", "report"}
    assert world.run(store) == set()


@pytest.mark.slow
def test_a_bit_flipped_in_any_file_is_found_and_the_stages_are_built_again(world: World, store: Path) -> None:
    before, flipped = published(store), 0
    for path in sorted(store.glob("artifacts/*/*/**/*")):
        relative = path.relative_to(store / "artifacts")
        if path.is_dir() or relative.parts[2] == "telemetry" or not path.stat().st_size:
            continue
        whole = path.read_bytes()
        for position in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
            reader = ArtifactStore(store)
            reader._set_aside = lambda folder: None  # type: ignore[method-assign]
            assert reader.find(*relative.parts[:2]) is None, (relative, position)
            flipped += 1
        if path.name != MANIFEST:
            path.write_bytes(whole)  # the manifest of every artifact stays damaged
    assert flipped > 90
    assert len(world.run(store)) == len(before) == 10
    assert published(store) == before


@pytest.mark.slow
def test_two_full_runs_at_once_compute_each_stage_once(world: World, tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    command = [sys.executable, "-m", "flows.cli", "run", "--preset", "kill", "--json"]
    for name, value in world.overrides.items():
        command += ["--set", f"{name}={value}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "THINKREC_HOME": str(root)}
    both = [
        subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    outputs = [each.communicate(timeout=600) for each in both]
    assert [each.returncode for each in both] == [0, 0], [told for _, told in outputs]
    statuses = [json.loads(text)["stages"] for text, _ in outputs]
    ran = Counter(name for stages in statuses for name, stage in stages.items() if stage["status"] == "ran")
    assert len(ran) == 10
    assert set(ran.values()) == {1}
