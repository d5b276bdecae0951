"""The local teacher: a server of a small model on this machine, there for as long as it is needed."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks.processes import Child
from tasks.teacher.endpoint import Endpoint, without_secrets
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.errors import PlatformError, TeacherError, one_line

HOST = "127.0.0.1"
PAGE_TOKENS = 256
"""Tokens in one block of the server's key-value cache."""
PROMPT_TOKENS = 2048
"""Room for the prompt of a request, beside its answer budget."""
MOST_THREADS = 8


@contextlib.contextmanager
def local_teacher(config: TeacherConfig, model_path: Path, log: Path) -> Iterator[Endpoint]:
    """The endpoint of a ready server, as `served_teacher` starts it."""
    with served_teacher(config, model_path, log) as (endpoint, _):
        yield endpoint


@contextlib.contextmanager
def served_teacher(config: TeacherConfig, model_path: Path, log: Path) -> Iterator[tuple[Endpoint, Child]]:
    """A ready server of `model_path`: its endpoint and its process, which ends with the block, and with this process.

    `transformers serve` with continuous batching: without it, one request would be answered at a time. It takes the
    temperature of its first request for all, and has one global seed, so only temperature 0 repeats itself.

    Args:
        config: teacher.port, concurrency, max_tokens_limit and startup_seconds are used.
        model_path: folder with safetensors weights and a tokenizer that has a chat template.
        log: the server's output.

    Raises:
        PlatformError: teacher.port is in use.
        TeacherError: the server ended, or was not ready in time.
    """
    port = _usable_port(config.port)
    with Child.start(_command(config, model_path, port), log, _environment(os.environ, config)) as server:
        _wait_until_ready(server, f"http://{HOST}:{port}/health", config)
        yield Endpoint(f"http://{HOST}:{port}/v1", str(model_path)), server


def _command(config: TeacherConfig, model_path: Path, port: int) -> list[str]:
    # Unbounded, the cache takes most of the memory: 4.0 GB instead of 1.2 GB were measured for a 135M model.
    per_request = math.ceil((PROMPT_TOKENS + config.max_tokens_limit) / PAGE_TOKENS)
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model_path)]
    command += ["--continuous-batching", "--host", HOST, "--port", str(port), "--log-level", "error"]
    command += ["--cb-num-blocks", str(per_request * config.concurrency), "--cb-max-batch-tokens", "1024"]
    return command


def _environment(inherited: Mapping[str, str], config: TeacherConfig) -> dict[str, str]:
    threads = str(min(len(os.sched_getaffinity(0)), MOST_THREADS))
    return {
        **without_secrets(config, inherited),
        # Two threads gave 1.8 times the tokens per second of one, at 15% more CPU time per token (8 requests in flight).
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _usable_port(wanted: int | None) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or 0))
        except OSError as error:
            raise PlatformError(
                f"port {wanted} of {HOST} cannot be used ({error.strerror})",
                "a free port for the local teacher",
                "set teacher.port to another one, or to null for any",
            ) from None
        return int(probe.getsockname()[1])


def _wait_until_ready(server: Child, url: str, config: TeacherConfig) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + config.startup_seconds
    while True:
        code = server.poll()
        if code is not None:
            last = one_line(server.log_tail(1), 200) or "it said nothing"
            raise TeacherError(
                f"the local teacher ended with code {code} before it was ready ({last})", next_step=f"see {server.log}"
            )
        with contextlib.suppress(urllib.error.URLError, OSError), opener.open(url, timeout=2.0) as response:
            if response.status == 200:
                return
        if time.monotonic() > deadline:
            raise TeacherError(
                f"the local teacher was not ready within {config.startup_seconds:g} s",
                next_step=f"raise teacher.startup_seconds, or see {server.log}",
            )
        time.sleep(0.1)
