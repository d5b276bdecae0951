from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from prefect import flow
from prefect.client.orchestration import get_client
from pytest_httpserver import HTTPServer

from flows import pages
from flows.config import load_config
from flows.notify import VARIABLE, notify
from flows.pages import promotion_page, run_page
from flows.run import Run
from flows.views import LogView
from storage.store import ArtifactStore
from storage.tracking import NullTracker
from tasks.stage import RunContext
from tests.flows.test_run import number


@pytest.mark.usefixtures("prefect_api")
def test_a_run_leaves_a_table_a_result_and_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAUSE_SECONDS", 0.0)

    @flow(name="pages")
    def paged() -> None:
        context = RunContext(load_config("smoke"), ArtifactStore(tmp_path), NullTracker(), LogView())
        Run("name", "smoke", context, 0.0)(number, 41)
        with context.view.progress("training x_1", 4) as advance:
            advance(completed=1, note="valid .7")
        run_page("r", "paged", {"rungs": {"bias": {"auc": 0.71, "auc_ci": [0.6, 0.8], "uauc": None}}})

    paged()
    with get_client(sync_client=True) as client:
        found: dict[str, Any] = {each.key: each for each in client.read_artifacts()}
    table = found["stage-number-41"]
    assert table.type == "table"
    assert '"ran"' in table.data
    assert "| bias | 0.7100 | 0.6000 to 0.8000 |  |" in found["run-paged"].data
    assert float(found["training-x-1"].data) == 100.0


def test_titles_stay_text_in_pages_that_are_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(pages, "_write", lambda call: call())
    monkeypatch.setattr(pages, "create_markdown_artifact", lambda text, key: written.append(text))
    monkeypatch.setattr(pages, "create_table_artifact", lambda table, key, description: written.append(description))
    hostile = "<script>alert(1)</script> [x](javascript:alert(1)) `</code><img src=x onerror=alert(1)>` | *b*"
    run_page(hostile, "p", {"headline": hostile, "report": hostile, "rungs": {hostile: {"auc": 0.5}}})
    promotion_page({"model": hostile, "version": 1, "decision": "promoted"})
    for text in written:
        shown = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text)
        assert not re.search(r"<(script|img|a|code|em)\b", shown)
        assert "&lt;script&gt;alert(1)&lt;/script&gt; [x](javascript:alert(1))" in shown
    assert len(written) == 2
    assert MarkdownIt("gfm-like", {"linkify": False}).render(written[0]).count("<td") == 4  # a title opens no column


def test_outside_of_a_flow_and_without_a_server_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    run_page("r", "p", {})
    with LogView().progress("x", 1) as advance:
        advance(completed=1)


def test_the_webhook_is_told_and_a_dead_one_stops_nothing(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not notify("failed")
    httpserver.expect_request("/hook", method="POST").respond_with_data("")
    monkeypatch.setenv(VARIABLE, httpserver.url_for("/hook"))
    assert notify("failed", run="r", error="no space")
    assert httpserver.log[0][0].json == {"event": "failed", "run": "r", "error": "no space"}
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:1/secret-token")
    assert not notify("failed")
    assert "secret-token" not in caplog.text
