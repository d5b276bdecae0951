"""A disk that is full, broken or read-only from the N-th change on, for every N of a stage, whatever library writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storage.disk_faults import disk_error, disk_faults
from thinkrec_core.errors import StoreError

HERE = Path(__file__).parent
COMPILER = shutil.which("gcc") or shutil.which("cc")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None:
        pytest.skip("the fault layer needs a C compiler")
    made = tmp_path_factory.mktemp("disk") / "failing_disk.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", made, HERE / "failing_disk.c", "-ldl"], check=True)
    return made


WORDS = {"ENOSPC": "No space left", "EIO": "Input/output error", "EROFS": "Read-only"}
CASES = [
    pytest.param("plain", ["ENOSPC"]),
    *(
        pytest.param(stage, list(WORDS), marks=pytest.mark.slow)
        for stage in ("plain", "data", "encoder", "wrong_predictions", "clusters")
    ),
]


@pytest.mark.parametrize(("stage", "codes"), CASES)
def test_every_failing_write_is_told_and_the_rerun_completes(
    library: Path, tmp_path: Path, stage: str, codes: list[str]
) -> None:
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"}
    command = [sys.executable, "-m", "failing_disk_stage", str(library), str(tmp_path / "store"), stage]
    done = subprocess.run([*command, *codes], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["bad"] == []
    assert result["writes"] > 15
    assert set(result["told"]) == set(codes)
    for code in codes:
        assert all(WORDS[code] in message for message in result["told"][code]), result["told"][code]


LLM_CASES = [
    # Every change of the run that builds the stage; its worker is a fork of the run, which saves the imports.
    ("general", 0, "forked"),
    ("expert", 0, "forked"),
    ("evaluation", 0, "forked"),
    ("report", 0, "forked"),
    ("general", 6, "real"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "tries", "worker"), LLM_CASES)
def test_a_refused_write_of_a_stage_with_the_language_model_is_told_and_the_rerun_completes(
    library: Path, tmp_path: Path, stage: str, tries: int, worker: str
) -> None:
    state = tmp_path / "state"
    state.write_bytes(bytes(8192))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "LD_PRELOAD": str(library),
        "FAILING_DISK_STATE": str(state),
        "FAILING_DISK_LOG": str(tmp_path / "changes"),
        "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}",
    }
    command = [sys.executable, "-m", "failing_disk_run", str(library), str(tmp_path), stage, str(tries), worker]
    done = subprocess.run([*command, *WORDS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["bad"] == []
    assert result["tries"] >= (tries or 30)
    assert {code for code in WORDS for message in result["told"] if WORDS[code] in message} == set(WORDS)


def test_the_number_is_found_in_the_words_of_other_libraries() -> None:
    assert disk_error(RuntimeError("I/O error: No space left on device (os error 28)")) == 28
    assert disk_error(OSError(30, "x")) == 30
    assert disk_error(FileNotFoundError(2, "x")) is None
    with pytest.raises(ValueError, match="other"), disk_faults("stage data", Path("/s")):
        raise ValueError("other")
    told = r"stage data could not be written below /s \(No space left on device\)"
    with pytest.raises(StoreError, match=told), disk_faults("stage data", Path("/s")):
        raise OSError(28, "x")
