"""A bundle is read whole and verified or not at all; what could run code never gets in."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from storage.bundle import FORMAT, MANIFEST, VERSION, _files, _pack, export_bundle, import_bundle, open_bundle
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import DataError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The shape of a bundle: the files mean nothing."""
    folder = tmp_path / "bundle"
    (folder / "general" / "adapter").mkdir(parents=True)
    (folder / "items.parquet").write_bytes(b"items")
    (folder / "general" / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    described(folder)
    return folder


def described(folder: Path, **changes: object) -> None:
    facts = {"format": FORMAT, "version": VERSION, "run": "r", "experts": [], "files": {}, **changes}
    facts["config"] = ThinkRecConfig().model_dump(mode="json")
    (folder / MANIFEST).unlink(missing_ok=True)
    facts["files"] = facts["files"] or _files(folder)
    (folder / MANIFEST).write_text(json.dumps(facts))


def test_folder_and_tar_come_in_as_they_went_out(bundle: Path, tmp_path: Path) -> None:
    for place in ("one.tar", "two.tar"):
        _pack(bundle, tmp_path / place)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    for number, source in enumerate((bundle, tmp_path / "one.tar")):
        found = import_bundle(source, tmp_path / f"in-{number}")
        assert found.run == "r"
        assert _files(found.path) == _files(bundle)


def test_a_changed_missing_or_unknown_file_is_named(bundle: Path) -> None:
    open_bundle(bundle)
    (bundle / "items.parquet").write_bytes(b"item5")
    with pytest.raises(DataError, match=r"items\.parquet is not the file that was exported"):
        open_bundle(bundle)
    (bundle / "items.parquet").unlink()
    with pytest.raises(DataError, match=r"has no file items\.parquet"):
        open_bundle(bundle)
    (bundle / "items.parquet").write_bytes(b"items")
    (bundle / "more.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"has an unknown file more\.parquet"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["model.pkl", "general/code.py", "weights.bin"])
def test_other_kinds_of_files_are_refused_even_where_the_manifest_names_them(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"x")
    described(bundle)
    with pytest.raises(DataError, match=r"expected plain \.json, \.parquet and \.safetensors"):
        open_bundle(bundle)


def test_a_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text("{}")
    (bundle / "linked.json").symlink_to(tmp_path / "elsewhere.json")
    described(bundle)
    with pytest.raises(DataError, match=r"holds linked\.json"):
        open_bundle(bundle)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        member("../out.json"),
        member("/tmp/out.json"),
        member("link.json", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard.json", tarfile.LNKTYPE, "../../x.json"),
        member("device.json", tarfile.CHRTYPE),
        member("code.py"),
    ],
    ids=lambda entry: entry.name,
)
def test_a_hostile_tar_writes_nothing(entry: tarfile.TarInfo, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.addfile(entry, io.BytesIO(b""))
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(DataError):
        import_bundle(tmp_path / "bad.tar", tmp_path / "in")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_is_no_bundle_is_said_in_one_line(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no tar")
    for source, words in ((tmp_path / "text.tar", "cannot be read"), (tmp_path, "is no bundle")):
        with pytest.raises(DataError, match=words):
            import_bundle(source, tmp_path / "in")
    described(bundle, version=99)
    with pytest.raises(DataError, match="version 99; expected thinkrec-bundle version 3"):
        open_bundle(bundle)
    with pytest.raises(DataError, match="run r has no trained LLM"):
        export_bundle(tmp_path, {"run": "r", "artifacts": {}}, tmp_path / "out")
