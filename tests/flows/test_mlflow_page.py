"""MLflow's own pages of a run whose every word is hostile: words stay words."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from deployments.daemons import stop_daemon
from deployments.servers import MLFLOW, PREFECT, start_servers
from storage.mlflow_backend import Backend
from storage.tracking import Tracker
from tests.chromium import HOSTILE, headless, until

pytestmark = pytest.mark.slow


class Pages(NamedTuple):
    """Addresses of MLflow's pages, by what they show."""

    runs: str
    run: str
    stage: str
    artifact: str
    traces: str


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A store with one run, its stage and a teacher's answer, and the servers of `thinkrec ui` on it."""
    root = tmp_path_factory.mktemp("mlflow")
    tracker = Tracker.start(root, HOSTILE, {"data": {"source": HOSTILE}})
    tracker.tags({"thinkrec.headline": HOSTILE})
    with tracker.stage(HOSTILE) as stage:
        stage.params({"title": HOSTILE})
        titles = root / "titles.md"
        titles.write_text(HOSTILE)
        stage.artifact(titles)
        asked = {"messages": [{"role": "user", "content": HOSTILE}]}
        answered = {"choices": [{"message": {"role": "assistant", "content": HOSTILE}}]}
        record = {"request": asked, "response": answered, "seconds": 0.1, "row": 1, "round": 1, "status": "ok"}
        stage.teacher_trace(record)
    tracker.finish()
    experiment = Backend(root).experiment_id
    found = start_servers(root, free_port(), free_port())
    try:
        base = f"{found.mlflow}/#/experiments/{experiment}"
        run, child = f"{base}/runs/{tracker.run_id}", f"{base}/runs/{stage.run_id}"
        yield Pages(f"{base}/runs", run, child, f"{child}/artifacts/titles.md", f"{base}/traces")
    finally:
        for name in (PREFECT, MLFLOW):
            stop_daemon(root, name)


@pytest.mark.parametrize("page", Pages._fields)
def test_titles_stay_text_in_mlflow(page: str, pages: Pages, tmp_path: Path) -> None:
    def told(browser: Any) -> bool:
        return "<script>document.title" in browser.find_element("tag name", "body").text

    with headless() as browser:
        browser.set_window_size(1280, 1400)
        browser.get(getattr(pages, page))
        try:
            until(lambda: told(browser), 60)
        finally:
            browser.save_screenshot(str(tmp_path / f"{page}.png"))
        time.sleep(1)  # an image that cannot be loaded tells its handler a little later
        assert browser.title != "owned"
        assert not browser.find_elements("css selector", "img[src='x']")
