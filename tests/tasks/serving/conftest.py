"""A server in this process on a tiny bundle with real files and a real, tiny LM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient

from tasks.serving.app import create_app
from tasks.serving.engine import Engine
from tasks.serving.limits import Limits
from tasks.serving.metrics import Metrics
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture(autouse=True, scope="package")
def few_threads() -> Iterator[None]:
    """Products this small are done before a second thread has woken up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def engine(bundle: Path) -> Engine:
    return Engine(lambda: bundle, Limits(), Metrics())


@pytest.fixture
def client(bundle: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Engine(lambda: bundle, Limits(), Metrics())), base_url="http://127.0.0.1") as client:
        yield client
