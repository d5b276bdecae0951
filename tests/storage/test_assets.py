"""Pinned downloads: fetched by pip from a local folder of wheels, verified, converted, refused when damaged."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from storage import assets
from storage.assets import RECORD, fetch_assets, ml100k_wheel, smollm2_folder
from storage.file_digests import file_digest, joint_digest, remembered_digest
from thinkrec_core.errors import AssetError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("THINKREC_CACHE", str(folder))
    return folder


@pytest.fixture
def pinned(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of the pinned name and its own hash, in a folder that pip looks into instead of the network."""
    shelf = cache.parent / "shelf"
    shelf.mkdir()
    wheel = shelf / assets.RECBOLE.file_name
    info = "recbole-1.2.1.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setattr(assets, "RECBOLE", replace(assets.RECBOLE, sha256=file_digest(wheel)))
    return wheel


def write_model(cache: Path) -> Path:
    folder = cache / assets.SMOLLM2_FOLDER
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    files = {path.name: file_digest(path) for path in folder.iterdir()}
    record = {"source_sha256": assets.SMOLLM2.sha256, "files": files, "digest": joint_digest(files)}
    (folder / RECORD).write_text(json.dumps(record))
    return folder


def test_fetching_verifies_prints_the_terms_once_and_is_idempotent(cache: Path, pinned: Path) -> None:
    write_model(cache)
    said: list[str] = []
    fetch_assets(said.append)
    assert any("no redistribution" in line and "Harper" in line for line in said)
    assert ml100k_wheel().read_bytes() == pinned.read_bytes()
    pinned.unlink()  # a second download could not succeed
    again: list[str] = []
    start = time.monotonic()
    fetch_assets(again.append)
    assert again == []
    assert time.monotonic() - start < 1


def test_a_damaged_wheel_is_named_with_both_hashes_and_replaced_by_the_next_set_up(cache: Path, pinned: Path) -> None:
    write_model(cache)
    fetch_assets(lambda line: None)
    path = ml100k_wheel()
    path.write_bytes(b"damaged")
    with pytest.raises(AssetError) as caught:
        ml100k_wheel()
    message = str(caught.value)
    assert str(path) in message
    assert hashlib.sha256(b"damaged").hexdigest() in message
    assert assets.RECBOLE.sha256 in message
    assert message.endswith("run make setup")
    fetch_assets(lambda line: None)
    assert ml100k_wheel().read_bytes() == pinned.read_bytes()


def test_a_download_with_other_bytes_is_refused_and_not_kept(
    cache: Path, pinned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "RECBOLE", replace(assets.RECBOLE, sha256="0" * 64))
    with pytest.raises(AssetError, match="expected sha256 0000"):
        fetch_assets(lambda line: None)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_a_registry_without_the_wheel_gives_one_line(cache: Path, pinned: Path) -> None:
    pinned.unlink()
    with pytest.raises(AssetError, match=r"recbole==1\.2\.1 could not be downloaded") as caught:
        fetch_assets(lambda line: None)
    assert "\n" not in str(caught.value)


def test_a_missing_wheel_says_what_to_run(cache: Path) -> None:
    with pytest.raises(AssetError, match=r"recbole-1\.2\.1.*run make setup"):
        ml100k_wheel()


def test_the_model_folder_is_verified_file_by_file(cache: Path) -> None:
    with pytest.raises(AssetError, match=r"is missing.*run make setup"):
        smollm2_folder()
    folder = write_model(cache)
    assert smollm2_folder() == folder
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(AssetError, match=r"model\.safetensors has sha256"):
        smollm2_folder()
    (folder / "model.safetensors").unlink()
    with pytest.raises(AssetError, match=r"model\.safetensors cannot be read"):
        smollm2_folder()


def test_a_model_of_another_wheel_or_with_an_edited_record_is_refused(cache: Path) -> None:
    record_file = write_model(cache) / RECORD
    record = json.loads(record_file.read_text())
    record_file.write_text(json.dumps({**record, "source_sha256": "abc"}))
    with pytest.raises(AssetError, match="converted from sha256 abc"):
        smollm2_folder()
    record_file.write_text(json.dumps({**record, "digest": "abc"}))
    with pytest.raises(AssetError, match="has digest abc"):
        smollm2_folder()
    record_file.write_text("[]")
    with pytest.raises(AssetError, match="is not readable"):
        smollm2_folder()


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("THINKREC_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(AssetError, match="set THINKREC_CACHE"):
        fetch_assets(lambda line: None)


def test_the_digest_of_a_large_file_is_remembered_until_it_changes(tmp_path: Path) -> None:
    path, memory = tmp_path / "large", tmp_path / "memory"
    path.write_bytes(bytes(9 * 2**20))
    first = remembered_digest(path, memory)
    assert first == hashlib.sha256(bytes(9 * 2**20)).hexdigest()
    (entry,) = (memory / "digests").iterdir()
    entry.write_text(entry.read_text().replace(first, "from memory"))
    assert remembered_digest(path, memory) == "from memory"
    os.utime(path, ns=(1, 1))
    assert remembered_digest(path, memory) == first
    entry.write_text("not JSON")
    os.utime(path, ns=(2, 2))
    assert remembered_digest(path, memory) == first
