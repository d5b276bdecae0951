"""Chromium for tests of pages: without a window, and without a network but this machine's."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="needs pip install 'thinkrec[browser]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("needs Chromium and chromedriver on the PATH", allow_module_level=True)

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> (1999)"
"""Changes the title of a page that takes it for markup."""


@contextlib.contextmanager
def headless() -> Iterator[Any]:
    """A browser, closed at the end."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def until(check: Any, seconds: float = 30.0) -> Any:
    """What `check` gives as soon as it is something."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "the page did not come so far"
        time.sleep(0.05)
    return found
