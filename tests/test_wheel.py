"""The package as it would be installed elsewhere: built offline, unpacked into an empty folder, called from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("thinkrec_core", "storage", "tasks", "deployments", "flows")
FILES = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the installed wheel."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "target"))
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
    offline = ["--no-deps", "--no-index"]
    wheel = [*pip, "wheel", *offline, "--no-build-isolation", "-w", str(wheels), str(source)]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = wheels.iterdir()
    subprocess.run([*pip, "install", *offline, "--target", str(target), str(built)], check=True, capture_output=True)
    return target


def call(installed: Path, code: str) -> str:
    """What `code` prints in a Python that finds the wheel before the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=installed.parent, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_the_wheel_holds_every_module_and_no_test(installed: Path) -> None:
    for package in SOURCES:
        here = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        there = {str(path.relative_to(installed)) for path in (installed / package).rglob("*.py")}
        assert here == there
    assert not (installed / "tests").exists()


def test_the_wheel_holds_presets_and_template(installed: Path) -> None:
    for pattern in ("deployments/presets/*.yaml", "thinkrec_core/report/*.html.j2"):
        names = {path.name for path in ROOT.glob(pattern)}
        assert names
        assert {path.name for path in installed.glob(pattern)} == names


def test_the_command_line_runs_from_the_wheel(installed: Path) -> None:
    code = "import sys, flows.cli as c; print(c.__file__); sys.exit(c.main(['--help']))"
    told = call(installed, code)
    assert told.startswith(str(installed))
    assert "Usage: thinkrec" in told


def test_the_wheel_finds_its_presets(installed: Path) -> None:
    told = json.loads(call(installed, "import flows.cli as c; c.main(['presets', '--json'])"))
    assert {preset["name"] for preset in told["presets"]} == {
        path.stem for path in (ROOT / "deployments" / "presets").glob("*.yaml")
    }
