"""Local ports and the servers behind them."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from thinkrec_core.errors import PlatformError

HOST = "127.0.0.1"
"""Everything listens here only: none of these servers asks for a password."""
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def require_free(port: int, what: str, option: str) -> None:
    """Return if `port` can be listened on.

    Raises:
        PlatformError: it is in use, or may not be used.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((HOST, port))
            return
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    raise PlatformError(
        f"port {port} of {HOST} cannot be used for {what} ({reason})",
        "a free port",
        f"end what listens there, or choose another one with {option} PORT",
    )


def answers(url: str, timeout: float = 2.0) -> bool:
    """True if `url` answers with status 200. A proxy is not asked: these are servers of this machine."""
    try:
        with _DIRECT.open(url, timeout=timeout) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def wait_until_answers(url: str, seconds: float, alive: Callable[[], bool]) -> bool:
    """True once `url` answers; False when the server is no longer `alive` or `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answers(url):
            return True
        if not alive():
            return False
        time.sleep(0.1)
    return False
