from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli import main
from tests.tiny_bundle import write_tiny_bundle


def test_a_bundle_becomes_an_mlflow_model_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle, out = write_tiny_bundle(tmp_path), tmp_path / "flavour"
    assert main(["bundle", "mlflow", "--bundle", str(bundle), "--out", str(out), "--json"]) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1]) == {"run": "tiny-bundle-0", "out": str(out)}
    assert (out / "bundle_model.py").is_file()
    assert "python_function:" in (out / "MLmodel").read_text(encoding="utf-8")
    assert main(["bundle", "mlflow", "--bundle", str(bundle), "--out", str(out)]) == 2
    told = capfd.readouterr().err
    assert "is there already" in told
    assert len(told.splitlines()) == 1
