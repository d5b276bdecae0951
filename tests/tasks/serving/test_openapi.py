"""Requests made up from the server's own description find no failure of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from tasks.serving.app import create_app
from tasks.serving.engine import Engine
from tasks.serving.limits import Limits
from tasks.serving.metrics import Metrics

schemathesis = pytest.importorskip("schemathesis", reason="needs pip install 'thinkrec[fuzz]'")
LOCAL = {"host": "127.0.0.1"}
GENERAL = {"400", "404", "405", "422"}
"""A broken request is answered by one of these, whatever the path."""


@pytest.mark.slow
def test_no_request_makes_the_server_fail(bundle: Path) -> None:
    app = create_app(Engine(lambda: bundle, Limits(), Metrics()))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=LOCAL)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/recommend", "/score", "/explain", "/health", "/metrics"}
    seen: set[tuple[str, int]] = set()
    for operation in operations:
        described = GENERAL | set(operation.definition.raw["responses"])
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            _try(operation, mode, described, seen)
    assert ("/score", 404) in seen
    assert ("/score", 422) in seen


def _try(operation: Any, mode: Any, described: set[str], seen: set[tuple[str, int]]) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def answers(case: Any) -> None:
        response = case.call(headers=LOCAL)
        assert response.status_code < 500, response.content
        assert str(response.status_code) in described
        seen.add((operation.path, response.status_code))

    try:
        answers()
    except Unsatisfiable:  # an operation without parameters has no wrong ones
        assert mode == schemathesis.GenerationMode.NEGATIVE
        assert operation.method == "get"
