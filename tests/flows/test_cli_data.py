"""`thinkrec data` as a user types it."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import app


def thinkrec(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", "data", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_synth_then_prepare_twice_gives_equal_bytes(tmp_path: Path) -> None:
    made = thinkrec(
        "synth", "--users", "60", "--items", "80", "--rows", "900", "--out", str(tmp_path / "made"), "--json"
    )
    assert json.loads(made.stdout)["rows"] == 900
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        result = thinkrec("prepare", str(tmp_path / "made"), "--out", str(folder), "--json")
        assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert sum(found["rows"].values()) + found["rejected"] + found["filtered"] == 900
    assert set(found["rows"]) == {"train", "valid", "test"}
    assert (found["users"], found["seconds"] > 0) == (60, True)
    one, two = ({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in f.iterdir()} for f in folders)
    assert one == two
    assert len(one) == 7
    again = thinkrec("prepare", str(tmp_path / "made"), "--out", str(folders[0]))
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "is there already" in again.stderr


def test_prepare_a_table_and_its_report(tmp_path: Path) -> None:
    rows = [f"u{u},i{t},{1 + (u + t) % 5},{1000 * u + t},T{t}" for u in range(8) for t in range(20)]
    (tmp_path / "log.csv").write_text("uid,iid,stars,at,name\n" + "\n".join(rows) + "\n")
    mapping = "user=uid,item=iid,rating=stars,timestamp=at,title=name"
    out = str(tmp_path / "out")
    result = thinkrec("prepare", str(tmp_path / "log.csv"), "--format", "table", "--columns", mapping, "--out", out)
    assert result.returncode == 0, result.stderr
    assert "160 rows of 8 users and 20 items; density 100.0000%" in result.stdout
    assert "160 rows read; rejected 0; filtered: none" in result.stdout


def test_append_twice_then_prepare_the_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        app(["data", *arguments], standalone_mode=False)
        return capsys.readouterr().out

    shop = str(tmp_path / "shop")
    for seed in ("1", "2"):
        said("synth", "--users", "40", "--items", "60", "--rows", "500", "--seed", seed, "--out", str(tmp_path / seed))
    first, second, again = (said("append", str(tmp_path / seed), "--to", shop) for seed in ("1", "2", "1"))
    assert f"500 rows are in {shop}/snapshots/000001-" in first
    assert f"500 rows are in {shop}/snapshots/000002-" in second
    assert f"nothing was added: {shop}/snapshots/000001-" in again
    assert "1,000 rows read; rejected 0; filtered: duplicates" in said("prepare", shop, "--out", str(tmp_path / "out"))


def test_every_command_of_the_guide_runs(tmp_path: Path) -> None:
    rows = [f"u{u},i{t},{1 + (u + t) % 5},{1000 * u + t},T{t}" for u in range(8) for t in range(20)]
    (tmp_path / "log.csv").write_text("uid,iid,stars,at,name\n" + "\n".join(rows) + "\n")
    guide = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    lines = [line.split("#")[0] for line in guide.splitlines() if line.startswith("thinkrec data ")]
    assert len(lines) == 6
    for number, line in enumerate(lines):
        arguments = shlex.split(line.replace("--out prepared", f"--out prepared{number}"))[2:]
        command = [sys.executable, "-m", "flows.cli", "data", *arguments]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 0, result.stderr


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    for arguments, part in (
        (["prepare", str(tmp_path / "none"), "--out", str(tmp_path / "o")], "neither a known data set nor a folder"),
        (["prepare", str(tmp_path), "--format", "cvs", "--out", str(tmp_path / "o")], "format is 'cvs'"),
        (["prepare", "x", "--columns", "user", "--out", str(tmp_path / "o")], "is no mapping"),
        (["synth", "--users", "9", "--rows", "3", "--out", str(tmp_path / "o")], "3 rows for 9 users"),
    ):
        result = thinkrec(*arguments)
        assert (result.returncode, result.stdout) == (2, ""), result.stdout
        assert part in result.stderr
        assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
