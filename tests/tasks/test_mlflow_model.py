"""A bundle as MLflow loads and serves it: the recommender's own scores, no pickle, nothing half-written."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from storage.bundle import open_bundle
from tasks.mlflow_model import write_mlflow_model
from tasks.recommender import Reader, Recommender
from tests.tiny_bundle import write_tiny_bundle
from thinkrec_core.errors import DataError, ThinkRecError

ROWS = pd.DataFrame({"user_id": ["1", "2", "1"], "item_id": ["3", "3", "7"]})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("flavour"))


@pytest.fixture(scope="module")
def model(bundle: Path) -> Path:
    out = bundle.parent / "flavour"
    write_mlflow_model(open_bundle(bundle), out)
    return out


@pytest.fixture(scope="module")
def expected(bundle: Path) -> np.ndarray:
    recommender = Recommender(open_bundle(bundle))
    readers = [recommender.user(user) for user in ROWS["user_id"]]
    return recommender.score_rows(readers, np.array([3, 3, 7])).final


def test_its_scores_are_the_recommenders(bundle: Path, model: Path, expected: np.ndarray) -> None:
    loaded = mlflow.pyfunc.load_model(str(model))
    found = loaded.predict(ROWS)
    np.testing.assert_allclose(found["score"], expected, atol=1e-4)
    assert list(found.columns) == ["user_id", "item_id", "score", "encoder_score", "llm_score"]
    recommender = Recommender(open_bundle(bundle))
    own = recommender.score_rows([Reader(1, (2, 9), (1, 0), "1")], np.array([7])).final
    row = {"user_id": "1", "item_id": "7", "history_item_idx": [2, 9], "history_label": [1, 0]}
    assert loaded.predict(pd.DataFrame([row]))["score"][0] == pytest.approx(own[0], abs=1e-4)
    with pytest.raises(DataError, match="nobody"):
        loaded.predict(pd.DataFrame({"user_id": ["nobody"], "item_id": ["3"]}))


def test_requests_at_the_same_time_are_scored_as_one_after_the_other(model: Path) -> None:
    loaded = mlflow.pyfunc.load_model(str(model))
    users, items = [str(1 + row % 4) for row in range(12)], [str(3 + row % 7) for row in range(12)]
    asked = [pd.DataFrame({"user_id": users[:end], "item_id": items[-end:]}) for end in range(1, 13)]
    alone = [loaded.predict(rows)["score"] for rows in asked]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda rows: loaded.predict(rows)["score"], asked * 4))
    for found, expected in zip(together, alone * 4, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(alone[-1]) > 1e-2


def test_it_is_code_and_the_bundles_files_and_nothing_else(bundle: Path, model: Path) -> None:
    files = {path.relative_to(model) for path in model.rglob("*") if path.is_file()}
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".bin")]
    own = {path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()}
    assert {path.relative_to("artifacts/bundle") for path in files if path.parts[0] == "artifacts"} == own
    with pytest.raises(DataError, match="is there already"):
        write_mlflow_model(open_bundle(bundle), model)


def test_a_damaged_bundle_is_not_loaded(bundle: Path, tmp_path: Path) -> None:
    write_mlflow_model(open_bundle(bundle), tmp_path / "model")
    weights = tmp_path / "model" / "artifacts" / "bundle" / "projector.safetensors"
    weights = (
        weights if weights.is_file() else next((tmp_path / "model" / "artifacts").rglob("adapter_model.safetensors"))
    )
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ThinkRecError, match=weights.name):
        mlflow.pyfunc.load_model(str(tmp_path / "model"))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_mlflow_serves_it(model: Path, expected: np.ndarray, free_port: int) -> None:
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in an activated environment: it calls uvicorn
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": programs}
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"),
            *("--host", "127.0.0.1", "--port", str(free_port)),
        ],
        env=environment,
        start_new_session=True,
    )
    body = json.dumps({"dataframe_records": ROWS.to_dict("records")}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{free_port}/invocations", body, {"Content-Type": "application/json"}
    )
    try:
        until = time.monotonic() + 120
        while True:
            try:
                told = json.load(urllib.request.urlopen(request, timeout=60))
                break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None
                assert time.monotonic() < until, "the server did not answer in time"
                time.sleep(0.5)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    np.testing.assert_allclose([row["score"] for row in told["predictions"]], expected, atol=1e-4)
