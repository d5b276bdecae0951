"""Shared by all tests: no telemetry, a store of its own per test session, and one Prefect server where a test asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.update(
    DO_NOT_TRACK="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    HF_HUB_OFFLINE="1",
)


@pytest.fixture(scope="session", autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever a test starts without naming a store must not touch the user's."""
    root = tmp_path_factory.mktemp("home")
    os.environ["THINKREC_HOME"] = str(root)
    os.environ["PREFECT_HOME"] = str(root / "prefect")


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """A Prefect server for the tests that call flows and tasks."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def store_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a store that only this test sees."""
    root = tmp_path / "store"
    monkeypatch.setenv("THINKREC_HOME", str(root))
    return root
