"""The data stage: its files, its key, and that bad input leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from storage.schemas import INTERACTIONS, ITEMS, REJECTED, SAMPLES
from storage.snapshots import append_snapshot
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import read_table
from storage.tracking import NullTracker
from tasks.prepare_data import prepare_data
from tasks.stage import RunContext
from tasks.view import View
from thinkrec_core.config.data import DataConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import DataError


def write_source(folder: Path) -> Path:
    folder.mkdir()
    rows = [f"u{user},i{t},{1 + (user + t) % 5},{1000 * user + t}" for user in range(12) for t in range(20)]
    (folder / "interactions.csv").write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n")
    items = [f"i{t},Title {t},Drama|War" for t in range(20)]
    (folder / "items.csv").write_text("item_id,title,genres\n" + "\n".join(items) + "\n")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def run(store: ArtifactStore, source: Path, seed: int = 7, **data: Any) -> tuple[ArtifactRef, str]:
    config = ThinkRecConfig.model_validate({"seed": seed, "data": {"source": str(source), **data}})
    context = RunContext(config, store, NullTracker(), View())
    result = prepare_data.fn(context)
    return result if isinstance(result, ArtifactRef) else result.data, context.results["data"].status


def test_files_and_statistics(store: ArtifactStore, source: Path) -> None:
    ref, status = run(store, source)
    folder = store.path(ref)
    assert status == "ran"
    statistics = json.loads((folder / "statistics.json").read_text())
    assert {split: values["rows"] for split, values in statistics["splits"].items()} == store.manifest(ref)["rows"]
    assert store.manifest(ref)["rows"] == {"train": 192, "valid": 24, "test": 24}
    assert (statistics["users"], statistics["items"], statistics["filtered"]["duplicates"]) == (12, 20, 0)
    assert read_table(folder / "interactions.parquet", INTERACTIONS).num_rows == 240
    assert read_table(folder / "items.parquet", ITEMS).column("keywords")[0].as_py() == "Drama, War"
    for split, rows in store.manifest(ref)["rows"].items():
        samples = read_table(folder / f"samples_{split}.parquet", SAMPLES)
        assert samples.num_rows == rows
        lengths = [len(history) for history in samples.column("history_item_idx").to_pylist()]
        assert max(lengths) == {"train": 15, "valid": 17, "test": 19}[split]


def test_a_moved_source_is_the_same_source_and_the_same_bytes(
    store: ArtifactStore, source: Path, tmp_path: Path
) -> None:
    ref, _ = run(store, source)
    shutil.move(source, tmp_path / "moved")
    assert run(store, tmp_path / "moved") == (ref, "cached")
    again, _ = run(ArtifactStore(tmp_path / "other"), write_source(source))
    assert again == ref


def test_a_data_set_of_snapshots_is_a_source(store: ArtifactStore, source: Path, tmp_path: Path) -> None:
    append_snapshot(DataConfig(source=str(source)), tmp_path / "grown")
    first, _ = run(store, tmp_path / "grown")
    assert run(store, tmp_path / "grown") == (first, "cached")
    shutil.move(tmp_path / "grown", tmp_path / "moved")
    assert run(store, tmp_path / "moved") == (first, "cached")
    (source / "interactions.csv").write_text("user_id,item_id,rating,timestamp\nnew,i3,1,9\n")
    append_snapshot(DataConfig(source=str(source)), tmp_path / "moved")
    second, status = run(store, tmp_path / "moved")
    rows = [read_table(store.path(ref) / "interactions.parquet", INTERACTIONS).to_pylist() for ref in (first, second)]
    assert status == "ran"
    assert [row for row in rows[1] if row["user_id"] != "new"] == rows[0]
    assert {row["user_idx"] for row in rows[1] if row["user_id"] == "new"} == {13}


def test_what_the_data_depend_on_is_in_the_key(store: ArtifactStore, source: Path) -> None:
    first, _ = run(store, source)
    assert run(store, source, seed=8) == (first, "cached")  # nothing is drawn without max_users
    assert run(store, source, history="liked")[1] == "ran"
    sampled = run(store, source, max_users=10)
    assert sampled[1] == "ran"
    assert run(store, source, seed=8, max_users=10)[1] == "ran"
    with (source / "interactions.csv").open("a") as handle:
        handle.write("u0,i3,1,5\n")
    assert run(store, source)[1] == "ran"


def test_a_bad_value_publishes_nothing(store: ArtifactStore, source: Path) -> None:
    text = (source / "interactions.csv").read_text()
    (source / "interactions.csv").write_text(text.replace("u0,i1,2,", "u0,i1,two,"))
    with pytest.raises(DataError, match=r"interactions\.csv: rating is 'two' in data row 2"):
        run(store, source, max_rejected=0)
    assert not list((store.root / "artifacts").rglob("manifest.json"))
    assert not list((store.root / "building").iterdir())


def test_a_few_bad_rows_are_kept_apart_and_counted(store: ArtifactStore, source: Path) -> None:
    text = (source / "interactions.csv").read_text()
    (source / "interactions.csv").write_text(text.replace("u0,i1,2,", "u0,i1,two,"))
    ref, _ = run(store, source)
    statistics = json.loads((store.path(ref) / "statistics.json").read_text())
    assert (statistics["rows_read"], statistics["rejected"]) == (240, 1)
    assert read_table(store.path(ref) / "rejected.parquet", REJECTED).to_pylist() == [
        {"file": "interactions.csv", "row": 2, "reason": "rating is 'two'; expected a number"}
    ]
