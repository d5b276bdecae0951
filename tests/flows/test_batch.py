"""Lists of all users, dealt to Prefect tasks: the same Parquet whatever runs them and however many they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flows.batch
from flows.batch import batch
from tests.tiny_bundle import write_tiny_bundle
from thinkrec_core.config.experts import ParallelConfig
from thinkrec_core.errors import DataError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("lists"))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve users are three parts."""
    monkeypatch.setattr(flows.batch, "PART_USERS", 5)


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


@pytest.fixture
def one_by_one(bundle: Path, tmp_path: Path, prefect_api: None) -> dict[str, bytes]:
    found = batch(str(tmp_path / "one"), str(bundle), 3, 8, ParallelConfig(runner="sequential"))
    assert found == {"bundle": "tiny-bundle-0", "users": 12, "rows": 36, "found_done": 0, "shards": 1}
    return parts(tmp_path / "one")


@pytest.mark.parametrize(
    ("runner", "workers", "shards"),
    [("threads", 2, None), ("threads", 2, 3), ("threads", 3, 7), ("ray", 2, 3), ("dask", 2, None)],
)
def test_shards_write_the_same_bytes(
    bundle: Path, tmp_path: Path, one_by_one: dict[str, bytes], runner: str, workers: int, shards: int | None
) -> None:
    if runner != "threads":
        pytest.importorskip(f"prefect_{runner}")
    parallel = ParallelConfig.model_validate({"runner": runner, "workers": workers})
    found = batch(str(tmp_path / "more"), str(bundle), 3, 8, parallel, shards)
    assert found["shards"] == min(shards or workers, 3)
    assert len(one_by_one) == 3
    assert parts(tmp_path / "more") == one_by_one


def test_what_is_there_is_kept_and_what_lacks_is_made(
    bundle: Path, tmp_path: Path, one_by_one: dict[str, bytes]
) -> None:
    out = tmp_path / "one"
    (out / "part-00001.parquet").unlink()
    before = (out / "part-00000.parquet").stat().st_mtime_ns
    found = batch(str(out), str(bundle), 3, 8, ParallelConfig(runner="threads", workers=2))
    assert (found["found_done"], found["shards"], found["rows"]) == (7, 1, 36)
    assert (out / "part-00000.parquet").stat().st_mtime_ns == before
    assert parts(out) == one_by_one
    assert batch(str(out), str(bundle), 3, 8)["shards"] == 0
    with pytest.raises(DataError, match="other settings"):
        batch(str(out), str(bundle), 4, 8)


def command(home: Path, bundle: Path, out: Path, *arguments: str) -> dict[str, Any]:
    given = [sys.executable, "-m", "flows.cli", "batch", "--json", "--bundle", str(bundle), "--out", str(out)]
    environment = {**os.environ, "THINKREC_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*given, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_command_gives_the_lists_of_a_plain_one(bundle: Path, tmp_path: Path) -> None:
    size = ["--top-k", "3", "--candidates", "8"]
    plain = command(tmp_path, bundle, tmp_path / "plain", *size, "--threads", "1")
    found = command(tmp_path, bundle, tmp_path / "dealt", *size, "--runner", "threads", "--workers", "2")
    assert (plain["rows"], found["rows"], found["shards"]) == (36, 36, 1)
    assert parts(tmp_path / "plain") == parts(tmp_path / "dealt")
