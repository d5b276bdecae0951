"""The server process: a socket on 127.0.0.1, signals, and an orderly end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from tasks.serving.app import LOCAL, create_app
from tasks.serving.engine import Engine
from tasks.serving.limits import Limits
from tasks.serving.metrics import Metrics
from thinkrec_core.errors import PlatformError

TOKEN = "THINKREC_SERVE_TOKEN"
CONNECTIONS = 512
"""Open connections; more are answered 503 by uvicorn."""


def serve(
    locate: Callable[[], Path],
    limits: Limits,
    port: int,
    reload_seconds: float | None,
    hosts: tuple[str, ...],
    started: Callable[[str, str], None],
) -> None:
    """Serve the bundle that `locate` finds until a signal ends the process; requests that were accepted are finished.

    Args:
        started: told the URL and the run of the bundle, once requests can come.

    Raises:
        PlatformError: the port is taken.
        ThinkRecError: the bundle cannot be loaded.
    """
    listener = _listener(port)
    with listener:
        engine = Engine(locate, limits, Metrics())
        app = create_app(engine, os.environ.get(TOKEN) or None, reload_seconds, (*LOCAL, *hosts))
        config = uvicorn.Config(
            app,
            log_level="warning",
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=limits.drain_seconds,
            server_header=False,
            ws="none",
        )
        server = uvicorn.Server(config)

        def asked_to_end(number: int, frame: object) -> None:
            server.should_exit = True

        # uvicorn handles signals itself and, when it has ended, raises them again for whoever was there before: nobody dies of it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, asked_to_end)
        started(f"http://127.0.0.1:{listener.getsockname()[1]}", engine.recommender.bundle.run)
        server.run(sockets=[listener])


def _listener(port: int) -> socket.socket:
    """Bound before anything is loaded: a taken port is told at once."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # who calls as soon as the URL is told waits, and is not turned away
    except OSError as error:
        listener.close()
        raise PlatformError(
            f"port {port} cannot be used ({error.strerror})", "a free one", "choose another --port"
        ) from None
    return listener
