"""The store: damage is found before a read, the dead leave nothing behind, and two runs compute a stage once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from flows.cli import main
from storage.catalog import write_catalog
from storage.crash_points import AT, LOG
from storage.store import MANIFEST, ArtifactRef, ArtifactStore
from thinkrec_core.errors import StoreError

ROOT = Path(__file__).parents[2]


def publish(
    store: ArtifactStore, stage: str = "data", key: str = "k", text: str = "content", **facts: object
) -> ArtifactRef:
    with store.locked(stage, key):
        draft = store.draft(stage, key)
        (draft.path / "sub").mkdir()
        (draft.path / "sub" / "file").write_text(text)
        (draft.telemetry / "times").write_text(str(time.time_ns()))
        return store.publish(draft, stage, key, facts)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["sub/file", MANIFEST])
def test_each_flipped_bit_is_found_at_the_next_read(tmp_path: Path, name: str) -> None:
    ref = publish(ArtifactStore(tmp_path), seconds=1.5)
    folder = tmp_path / "artifacts" / "data" / "k"
    whole = (folder / name).read_bytes()
    bits = range(0, 8 * len(whole), 1 if name != MANIFEST else 5)
    for bit in bits:
        flip(folder / name, bit)
        with pytest.raises(StoreError, match=r"changed on the disk and was set aside|has digest"):
            ArtifactStore(tmp_path).path(ref)
        assert ArtifactStore(tmp_path).find("data", "k") is None, bit
        assert publish(ArtifactStore(tmp_path), seconds=1.5) == ref


def test_a_missing_file_is_damage_and_telemetry_is_not(tmp_path: Path) -> None:
    ref = publish(ArtifactStore(tmp_path))
    folder = ArtifactStore(tmp_path).path(ref)
    (folder / "telemetry" / "times").write_text("another")
    assert ArtifactStore(tmp_path).find("data", "k") == ref
    (folder / "sub" / "file").unlink()
    assert ArtifactStore(tmp_path).find("data", "k") is None


def test_a_manifest_of_an_older_store_has_no_seal_and_is_read(tmp_path: Path) -> None:
    ref = publish(ArtifactStore(tmp_path))
    manifest = tmp_path / "artifacts" / "data" / "k" / MANIFEST
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({key: value for key, value in values.items() if key != "seal"}))
    assert ArtifactStore(tmp_path).find("data", "k") is None  # a seal was there
    publish(ArtifactStore(tmp_path))
    manifest.write_text(json.dumps({key: value for key, value in values.items() if key not in ("seal", "format")}))
    assert ArtifactStore(tmp_path).find("data", "k") == ref
    flip(tmp_path / "artifacts" / "data" / "k" / "sub" / "file", 0)
    assert ArtifactStore(tmp_path).find("data", "k") is None


def test_nothing_is_collected_while_a_run_uses_the_store(tmp_path: Path) -> None:
    one, two = ArtifactStore(tmp_path), ArtifactStore(tmp_path)
    with one.in_use(), two.in_use(), pytest.raises(StoreError, match="in use by a run"), two.in_use(alone=True):
        pass
    with one.in_use(alone=True), pytest.raises(StoreError, match="in use by thinkrec artifacts gc"), two.in_use():
        pass


def test_a_draft_is_swept_when_its_key_is_free_and_kept_while_it_is_locked(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with store.locked("data", "k"):
        draft = store.draft("data", "k")
        ArtifactStore(tmp_path)
        assert draft.path.is_dir()
    ArtifactStore(tmp_path)
    assert not draft.path.exists()


PUBLISH = """
import sys, time
from pathlib import Path
from storage.store import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
with store.locked("data", "k"):
    if store.find("data", "k") is None:
        open(sys.argv[1] + "/computed", "a").write("x")
        draft = store.draft("data", "k")
        (draft.path / "file").write_text("content")
        time.sleep(0.3)
        store.publish(draft, "data", "k", {})
"""


def child(root: Path, **environment: str) -> subprocess.Popen[bytes]:
    values = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen([sys.executable, "-c", PUBLISH, str(root)], env=values)


def test_two_processes_compute_a_stage_once(tmp_path: Path) -> None:
    both = [child(tmp_path), child(tmp_path)]
    assert [each.wait(60) for each in both] == [0, 0]
    assert (tmp_path / "computed").read_text() == "x"


def test_a_publication_killed_anywhere_is_whole_or_absent(tmp_path: Path) -> None:
    log = tmp_path / "points"
    assert child(tmp_path / "calm", **{LOG: str(log)}).wait(60) == 0
    points = log.read_text().split()
    assert len(points) == 5
    for number, point in enumerate(points):
        root = tmp_path / str(number)
        assert child(root, **{AT: point}).wait(60) == -9
        assert child(root).wait(60) == 0
        published = point in ("data/publish.renamed", "data/publish.done")
        assert len((root / "computed").read_text()) == (1 if published else 2)
        assert list((root / "building").iterdir()) == []
        assert ArtifactStore(root).find("data", "k") == ArtifactStore(tmp_path / "calm").find("data", "k")


def test_the_catalog_is_queried_with_plain_duckdb(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    ref = publish(store, rows={"train": 3}, seconds=1.5)
    parents = {"data": ref.model_dump()}
    other = publish(store, "encoder", "e", "x", parents=parents)
    artifacts = {r.stage: {"key": r.key, "digest": r.digest} for r in (ref, other)}
    stages = {name: {"status": "ran", "seconds": 1.0} for name in artifacts}
    summary = {
        "preset": "smoke",
        "stages": stages,
        "artifacts": artifacts,
        "rungs": {"bias": {"auc": 0.7, "auc_ci": [0, 1]}},
    }
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "r1.json").write_text(json.dumps(summary))
    write_catalog(tmp_path)
    write_catalog(tmp_path)
    with duckdb.connect(str(tmp_path / "catalog.duckdb"), read_only=True) as database:
        sql = "select a.stage, p.parent_key, s.run, m.value from artifacts a join parents p using (stage, key) "
        sql += "join stages s using (stage, key) join metrics m using (run)"
        assert database.execute(sql).fetchall() == [("encoder", "k", "r1", 0.7)]
        assert database.execute("select rows->>'train' from artifacts where stage = 'data'").fetchone() == ("3",)


def test_the_commands_list_verify_trace_and_collect(store_root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = ArtifactStore(store_root)
    data = publish(store)
    publish(store, "encoder", "e", "x", parents={"data": data.model_dump()}, inputs={"data": data.digest})
    publish(store, "encoder", "old", "y")
    runs = store_root / "runs"
    runs.mkdir()
    (runs / "r.json").write_text(json.dumps({"stages": {}, "artifacts": {"encoder": {"key": "e", "digest": "d"}}}))

    def told(*arguments: str, code: int = 0) -> dict[str, object]:
        kept = os.dup(1)  # --json turns standard output away for the rest of the process
        assert main(["artifacts", *arguments, "--json"]) == code
        os.dup2(kept, 1)
        os.close(kept)
        return json.loads(capfd.readouterr().out.splitlines()[-1])

    assert len(told("ls")["artifacts"]) == 3  # type: ignore[arg-type]
    assert told("lineage", "encoder/e")["parents"][0]["key"] == "k"  # type: ignore[index]
    assert told("show", "data")["manifest"]["digest"] == data.digest  # type: ignore[index]
    assert told("gc", "--yes")["paths"] == []  # all are younger than a week
    for folder in (store_root / "artifacts").glob("*/*"):
        os.utime(folder, (1, 1))
    assert [Path(path).name for path in told("gc")["paths"]] == ["old"]  # type: ignore[union-attr]
    told("gc", "--yes")
    assert {values["key"] for values in told("ls")["artifacts"]} == {"k", "e"}  # type: ignore[union-attr]
    flip(store_root / "artifacts" / "data" / "k" / "sub" / "file", 0)
    assert told("verify", code=2) == {"whole": 1, "damaged": ["data/k"]}
