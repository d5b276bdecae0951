"""The arrows of docs/architecture.md, checked by import-linter under the contracts of pyproject.toml."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("thinkrec_core", "storage", "tasks", "deployments", "flows")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as main; main()"]
    return subprocess.run([*command, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


def test_imports_point_one_way() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("package", "line"),
    [("thinkrec_core", "import storage.store"), ("thinkrec_core", "import duckdb"), ("tasks", "import flows.cli"),
     ("flows", "import torch")],
)  # fmt: skip
def test_a_wrong_arrow_breaks_the_contract(tmp_path: Path, package: str, line: str) -> None:
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / package / "wrong_arrow.py").write_text(f"{line}\n")
    result = lint(tmp_path)
    assert result.returncode == 1, result.stdout
    assert "wrong_arrow" in result.stdout


def test_package_inits_import_nothing() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(path.read_text()).body
            assert all(isinstance(node, ast.Expr) for node in body), f"{path} holds code"


def test_there_is_no_init_below_tests() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
