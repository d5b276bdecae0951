"""A new folder appears whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from storage.new_folder import new_folder
from thinkrec_core.errors import DataError


def test_the_folder_is_there_only_after_the_block(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with new_folder(out) as building:
        (building / "rows").write_text("1")
        assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "rows").read_text() == "1"


def test_an_error_leaves_nothing_and_keeps_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="of the reader"), new_folder(tmp_path / "out"):
        raise OSError("of the reader")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"), new_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_the_empty_working_folder_can_be_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "here"
    inside.mkdir()
    monkeypatch.chdir(inside)
    with new_folder(Path(".")) as building:
        (building / "rows").write_text("1")
    assert (inside / "rows").read_text() == "1"


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("1")
    with pytest.raises(DataError, match="is there already"), new_folder(tmp_path):
        raise AssertionError("the block must not run")
    (tmp_path / "file").write_text("2")
    with pytest.raises(DataError, match="cannot be written"), new_folder(tmp_path / "file" / "out"):
        raise AssertionError("the block must not run")
