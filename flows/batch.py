"""Lists for all users of a bundle in shards that are Prefect tasks: side by side on this machine, or on a Ray or Dask cluster."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prefect import flow

from flows.cli_bundle import find_bundle
from flows.task_runners import running
from flows.views import current_view
from storage.bundle import Bundle
from tasks.batch_lists import PART_USERS, Lists
from tasks.batch_shard import write_shard
from thinkrec_core.config.experts import ParallelConfig

LOOK_SECONDS = 0.5
"""Between two looks at which parts are there: what other processes have done is seen in no other way."""


@flow(name="batch", flow_run_name="lists in {out}", persist_result=False)
def batch(
    out: str,
    bundle: str | None = None,
    top_k: int = 10,
    candidates: int = 200,
    parallel: ParallelConfig = ParallelConfig(runner="threads"),  # noqa: B008 - frozen
    shards: int | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Lists of all users in the folder `out`: bundle, users, rows, found_done and shards.

    Args:
        bundle: folder, run, or champion; by default the newest run.
        top_k: length of a list.
        candidates: items that the encoder chooses for the LLM to rank.
        parallel: where shards run, and how many at once. Each of them loads the bundle.
        shards: into how many tasks the parts that lack are dealt; by default as many as run at once.
        threads: CPU threads of each. The files depend on it in the last bits of their scores, and on nothing else here.

    Raises:
        ThinkRecError: a mistake of the user; finished parts are kept.
    """
    found = find_bundle(bundle)
    users = pq.read_metadata(found.path / "users.parquet").num_rows
    lists = Lists(Path(out).absolute(), found.digest, users, top_k, candidates, PART_USERS)
    with lists.claimed():
        todo = lists.missing()
        at_once = 1 if parallel.runner == "sequential" else parallel.workers
        dealt = [todo[number :: shards or at_once] for number in range(min(shards or at_once, len(todo)))]
        if dealt:
            with _progress(lists):
                _write(found, lists, dealt, threads, parallel.model_copy(update={"workers": at_once}))
        return {
            "bundle": found.run,
            "users": lists.users,
            "rows": lists.rows(),
            "found_done": lists.users - lists.users_of(todo),
            "shards": len(dealt),
        }


def _write(bundle: Bundle, lists: Lists, dealt: list[list[int]], threads: int, parallel: ParallelConfig) -> None:
    """All shards; those beside one that fails are finished before its error is raised."""
    stop = threading.Event()
    here = parallel.runner in ("sequential", "threads")
    call = {"bundle": bundle.path.absolute(), "lists": lists, "threads": threads, "stop": stop if here else None}
    with running(parallel, "--runner") as runner:
        futures = [
            runner.submit(write_shard.with_options(name=f"lists_{number}"), {**call, "parts": parts})
            for number, parts in enumerate(dealt)
        ]
        try:
            for future in futures:
                future.wait()
        except BaseException:
            stop.set()  # Ctrl-C
            raise
        states = [future.state for future in futures]
    for state in states:
        state.result(raise_on_failure=True)


@contextlib.contextmanager
def _progress(lists: Lists) -> Iterator[None]:
    """A bar of the users whose parts are in the folder, whoever wrote them."""
    over = threading.Event()
    with current_view().progress("users", lists.users) as advance:

        def look() -> None:
            while not over.wait(LOOK_SECONDS):
                advance(completed=lists.users - lists.users_of(lists.missing()))

        # In the flow's context: its page knows by that which run it is of.
        watcher = threading.Thread(target=contextvars.copy_context().run, args=(look,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
