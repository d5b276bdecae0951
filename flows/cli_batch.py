"""`thinkrec batch`: lists for all users of a bundle, in this process or as Prefect tasks over shards of the users."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_bundle import BundleName
from flows.cli_recommend import Candidates, TopK, loaded
from flows.options import Json

if TYPE_CHECKING:
    from thinkrec_core.config.experts import ParallelConfig

OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder of Parquet parts; a rerun goes on in it.")]
Runner = Annotated[
    str | None, typer.Option(help="threads, ray or dask: users are dealt to Prefect tasks of this task runner.")
]
Workers = Annotated[int, typer.Option(min=1, help="Tasks at once, with --runner.")]
Shards = Annotated[int | None, typer.Option(min=1, help="Tasks in all, with --runner; as many as run at once.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of each process; all without --runner, 1 with it.")
]
Address = Annotated[str | None, typer.Option(help="Of a running Ray or Dask cluster; without it one is started here.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("batch")(batch_command)


def batch_command(
    out: OutFolder,
    bundle: BundleName = None,
    top_k: TopK = 10,
    candidates: Candidates = 200,
    runner: Runner = None,
    workers: Workers = 2,
    shards: Shards = None,
    address: Address = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Write top-k lists of all users as Parquet; what a stopped run has finished is kept.

    With --runner the users are dealt to Prefect tasks, side by side on this machine or on a cluster that shares its folders.
    """
    from flows.output import Output

    output = Output(as_json)
    if runner is None:
        if shards is not None or address is not None:
            raise typer.BadParameter("--shards and --address need --runner")
        found = _batch_here(bundle, out, top_k, candidates, threads, output)
    else:
        found = _batch_in_shards(
            bundle, out, top_k, candidates, _parallel(runner, workers, address), shards, threads or 1, output
        )
    output.say(
        f"{found['rows']:,} rows of {found['users']:,} users are in {out} ({found['found_done']:,} were done before)"
    )
    output.result({"out": str(out), **found})


def _batch_here(
    bundle: str | None, out: Path, top_k: int, candidates: int, threads: int | None, output: Any
) -> dict[str, Any]:
    """In this process, which needs no Prefect."""
    from tasks.batch_lists import Lists, use_threads

    recommender = loaded(bundle, output)
    if threads is not None:
        use_threads(threads)
    lists = Lists(out, recommender.bundle.digest, len(recommender.user_ids), top_k, candidates)
    with lists.claimed(), output.view.progress("users", lists.users) as advance:
        todo = lists.missing()
        found_done = lists.users - lists.users_of(todo)
        advance(completed=found_done)
        for number, part in enumerate(todo, start=1):
            lists.write(recommender, [part])
            advance(completed=found_done + lists.users_of(todo[:number]))
        facts = {"users": lists.users, "rows": lists.rows(), "found_done": found_done, "shards": 1}
    return {"bundle": recommender.bundle.run, **facts}


def _batch_in_shards(
    bundle: str | None,
    out: Path,
    top_k: int,
    candidates: int,
    parallel: ParallelConfig,
    shards: int | None,
    threads: int,
    output: Any,
) -> dict[str, Any]:
    from flows.cli_bundle import find_bundle
    from flows.prefect_api import PrefectAPI
    from storage.home import store_root

    found, root = find_bundle(bundle), store_root()  # here too, so that a mistake is told before any server starts
    output.say(f"bundle {found.run} ({found.path}); shards on {parallel.runner}")
    with PrefectAPI(root) as api:
        from flows.batch import batch
        from flows.logs import route_logs
        from flows.views import showing

        route_logs(root, output.view)
        api.wait()
        with showing(output.view):
            return batch(str(out), str(found.path), top_k, candidates, parallel, shards, threads)


def _parallel(runner: str, workers: int, address: str | None) -> ParallelConfig:
    from thinkrec_core.config.experts import ParallelConfig

    try:
        return ParallelConfig.model_validate({"runner": runner, "workers": workers, "address": address})
    except ValueError:
        raise typer.BadParameter(
            f"--runner {runner} with --address {address}; expected threads, ray or dask, an address for the last two"
        ) from None
