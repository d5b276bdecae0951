"""The task runner of work that is done at once: threads of this machine, Ray or Dask."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from thinkrec_core.config.experts import ParallelConfig
from thinkrec_core.errors import ConfigError, PlatformError

RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"}
"""Nothing is reported to anybody, and a busy machine may take its time."""


@contextlib.contextmanager
def running(config: ParallelConfig, field: str) -> Iterator[TaskRunner[Any]]:
    """The running task runner of `config`.

    Args:
        field: where the runner was named, for messages.

    Raises:
        ConfigError: its package is not installed.
        PlatformError: it does not start.
    """
    runner: TaskRunner[Any]
    try:
        if config.runner == "ray":
            for name, value in RAY.items():
                os.environ.setdefault(name, value)
            from prefect_ray.task_runners import RayTaskRunner

            local: dict[str, Any] = {"num_cpus": config.workers, "include_dashboard": False, "log_to_driver": False}
            local["_node_ip_address"] = "127.0.0.1"
            runner = RayTaskRunner(config.address, {} if config.address else local)
        elif config.runner == "dask":
            from prefect_dask.task_runners import DaskTaskRunner

            one = {"n_workers": config.workers, "threads_per_worker": 1, "dashboard_address": ":0"}
            runner = DaskTaskRunner(address=config.address) if config.address else DaskTaskRunner(cluster_kwargs=one)
        else:
            runner = ThreadPoolTaskRunner(max_workers=config.workers)
    except ImportError:
        raise ConfigError(
            f"{field} is {config.runner}, which is not installed",
            f"prefect-{config.runner}",
            f"pip install 'thinkrec[{config.runner}]'",
        ) from None
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(runner)
        except Exception as error:  # Ray and Dask raise plain ones
            where = f" at {config.address}" if config.address else ""
            raise PlatformError(
                f"{config.runner}{where} does not start ({error})", next_step="look at its logs"
            ) from None
        yield runner
