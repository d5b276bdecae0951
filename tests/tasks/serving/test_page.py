"""The page in a real browser: a user picked, a recommendation read with its reasons, keyboard, contrast, hostile titles."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
import uvicorn

from tasks.serving.app import create_app
from tasks.serving.engine import Engine
from tasks.serving.limits import Limits
from tasks.serving.metrics import Metrics
from tests.chromium import HOSTILE, headless, until, webdriver
from tests.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.slow
pytest.importorskip("axe_core_python", reason="needs pip install 'thinkrec[browser]'")
SIZES = (1280, 390)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    titles = dict.fromkeys((2, 5, 6, 9, 15), HOSTILE)
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("page"), titles=titles)
    app = create_app(Engine(lambda: bundle, Limits(), Metrics()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def browser() -> Iterator[Any]:
    with headless() as driver:
        yield driver


def opened(browser: Any, url: str, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(url)
    until(lambda: all_of(browser, "#users option"))


def all_of(browser: Any, selector: str) -> list[Any]:
    return browser.find_elements("css selector", selector)


def typed(browser: Any, *keys: str) -> None:
    chain = webdriver.ActionChains(browser)
    for key in keys:
        chain.send_keys(key)
    chain.perform()


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_user_reads_a_recommendation_with_its_reasons_by_keyboard_alone(
    browser: Any, url: str, width: int, scheme: str
) -> None:
    tab, enter = webdriver.Keys.TAB, webdriver.Keys.ENTER
    opened(browser, url, width, scheme)
    typed(browser, tab, "2", enter)
    rows = until(lambda: all_of(browser, "#list button"))
    assert len(rows) == 10
    assert browser.find_element("id", "status").text == "10 recommendations for 2"
    assert len(all_of(browser, "#gates li")) == 3
    assert "expert 0" in browser.find_element("id", "gates").text
    assert len(all_of(browser, "#map .dot")) == 12
    assert len(all_of(browser, "#map .here")) == 1
    for _ in range(20):
        typed(browser, tab)
        if browser.switch_to.active_element == rows[0]:
            break
    assert browser.switch_to.active_element == rows[0]
    typed(browser, enter)
    assert rows[0].get_attribute("aria-expanded") == "true"
    until(lambda: browser.find_element("css selector", ".why:not([hidden]) p:last-child").text.startswith("Name"))
    assert browser.find_element("css selector", ".why:not([hidden]) .text").text.startswith(("Yes.", "No."))
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")

    axe = next(path for path in files("axe_core_python").iterdir() if path.name == "axe.min.js")
    browser.execute_script(axe.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run(document).then(arguments[arguments.length - 1])")
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert "color-contrast" in {each["id"] for each in found["passes"]}


def test_titles_stay_text(browser: Any, url: str) -> None:
    opened(browser, url, 1280, "light")
    typed(browser, webdriver.Keys.TAB, "1", webdriver.Keys.ENTER)
    until(lambda: all_of(browser, "#list button"))
    shown = [each.text for each in all_of(browser, ".title, #history span:first-child")]
    assert HOSTILE in shown
    assert browser.title == "thinkrec"
    assert all_of(browser, "main script, main img") == []


def test_mistakes_are_told_and_liked_titles_are_enough(browser: Any, url: str) -> None:
    opened(browser, url, 390, "light")
    status = browser.find_element("id", "status")
    browser.find_element("id", "user").send_keys("nobody", webdriver.Keys.ENTER)
    until(lambda: "is not in the bundle" in status.text)
    browser.find_element("id", "user").clear()
    browser.find_element("id", "liked").send_keys("item 3; Item 4", webdriver.Keys.ENTER)
    until(lambda: status.text == "10 recommendations for somebody who likes Item 3 (1983), Item 4 (1984)")
    assert browser.find_element("id", "route").text == "The general adapter answers."
    assert all_of(browser, "#map .here") == []
