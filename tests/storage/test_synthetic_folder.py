from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from storage.readers.registry import configured_digest, configured_source, read_source
from storage.synthetic_folder import write_synthetic
from thinkrec_core.config.data import DataConfig
from thinkrec_core.errors import DataError
from thinkrec_core.synthetic import SyntheticSpec, synthetic

SPEC = SyntheticSpec(users=40, items=30, rows=250)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_folder_is_a_source_and_holds_the_truth(tmp_path: Path) -> None:
    seen: list[int] = []
    assert write_synthetic(SPEC, tmp_path / "made", seen.append) == seen[-1] == 250
    raw, expected = read_source(str(tmp_path / "made")), synthetic(SPEC)
    assert raw.table().column("user_id").to_pylist() == [str(u) for u in expected.interactions.user_id]
    assert raw.items.column("title").to_pylist() == expected.titles
    users = pq.read_table(tmp_path / "made" / "truth" / "users.parquet")
    assert np.array_equal(users.column("cluster").to_numpy(), expected.truth.user_cluster)
    assert json.loads((tmp_path / "made" / "truth" / "parameters.json").read_text())["rows"] == 250
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_the_source_synthetic_is_the_same_data_without_a_folder(tmp_path: Path) -> None:
    write_synthetic(SPEC, tmp_path / "made")
    config = DataConfig.model_validate({"source": "synthetic", "synthetic": {"users": 40, "items": 30, "rows": 250}})
    drawn, folder = configured_source(config), read_source(str(tmp_path / "made"))
    columns = ["user_id", "item_id", "timestamp", "rating"]
    assert drawn.table().select(columns) == folder.table().select(columns)
    assert drawn.items == folder.items
    other = config.synthetic.model_copy(update={"seed": 8})
    assert (
        configured_digest(config) == drawn.digest != configured_digest(config.model_copy(update={"synthetic": other}))
    )
    early = configured_source(config.model_copy(update={"not_after": date(2021, 6, 30)}))
    rows = sum(chunk.num_rows for chunk in early.chunks())
    assert rows + early.rejected.rows == 250
    assert 0 < rows < 250


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_synthetic(SPEC, tmp_path / name)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 5


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="is there already"):
        write_synthetic(SPEC, tmp_path)
    with pytest.raises(DataError, match="is there already"):
        write_synthetic(SPEC, tmp_path / "notes.txt")
    with pytest.raises(DataError, match="cannot be written"):
        write_synthetic(SPEC, tmp_path / "notes.txt" / "below")
