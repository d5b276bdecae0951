"""`thinkrec explanations` on real data and real weights, in the sizes of the smoke preset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest


def run(home: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "flows.cli", "explanations", "--preset", "smoke", "--rows", "8", "--json"]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "THINKREC_HOME": str(home), "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=home.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_trained_student_is_measured_against_the_teacher(tmp_path: Path) -> None:
    first = run(tmp_path / "home")
    assert list(first["stages"])[-3:] == ["reference_traces", "student_texts", "explanations"]
    assert first["rows"] == first["references"]["accepted"] == pq.read_table(first["table"]).num_rows
    assert first["rows"] + first["references"]["rejected"] == 8
    assert 0 < first["metrics"]["rouge_l"]["value"] < 1
    assert "<html" in Path(first["report"]).read_text(encoding="utf-8")
    again = run(tmp_path / "home")
    assert again["all_cached"]
    assert again["metrics"] == first["metrics"]
