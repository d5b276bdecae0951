"""One shard of the lists of all users, as a Prefect task: it may run in another thread, process or machine."""

from __future__ import annotations

from pathlib import Path
from threading import Event

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.bundle import open_bundle
from tasks.batch_lists import Lists, use_threads
from thinkrec_core.errors import DataError


@task(name="lists", cache_policy=NO_CACHE)
def write_shard(bundle: Path, lists: Lists, parts: list[int], threads: int, stop: Event | None = None) -> int:
    """Write `parts` of `lists` with a recommender of its own; returns how many users they hold.

    Args:
        bundle: folder, the same one for whoever runs shards, as that of `lists` is.
        threads: CPU threads of PyTorch in this process or thread.
        stop: ends the work after the user that is being ranked; None where it runs in another process.

    Raises:
        DataError: the bundle was replaced since the lists were begun, or the folder of `lists` cannot be written.
    """
    from tasks.recommender import Recommender  # loads torch

    use_threads(threads)
    found = open_bundle(bundle)
    if found.digest != lists.digest:
        raise DataError(f"{bundle} has digest {found.digest[:16]}", f"{lists.digest[:16]}, that of the lists")
    recommender = Recommender(found)
    lists.write(recommender, parts, stop.is_set if stop is not None else lambda: False)
    return lists.users_of(parts)
