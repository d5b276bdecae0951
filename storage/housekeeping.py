"""What can go: artifacts that no kept run names, and abandoned scratch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.catalog import manifests, size, summaries
from storage.store import ArtifactStore, remove_whole

DAY = 86400.0
UNFINISHED_DAYS = 7.0
"""Scratch and unnamed artifacts younger than this may be the work of an interrupted run that somebody comes back to."""


@dataclass(frozen=True)
class Waste:
    """One folder of the store that can be removed: artifacts/<stage>/<key> or scratch/<stage>/<key>."""

    path: Path
    why: str
    bytes: int


def waste(root: Path, keep_runs: int) -> list[Waste]:
    """What `thinkrec artifacts gc` would remove.

    Args:
        keep_runs: the newest finished runs whose artifacts stay, with all that these were made from.
    """
    return [*_unnamed(root, keep_runs), *_old_scratch(root)]


def remove(store: ArtifactStore, found: list[Waste]) -> int:
    """Remove `found`, each under the lock of its key; returns the bytes that were freed.

    To be called while `store.in_use(alone=True)` is held since before `found` was made.

    Raises:
        OSError: the disk refuses.
    """
    for each in found:
        with store.locked(each.path.parent.name, each.path.name):
            remove_whole(store.root, each.path)
    return sum(each.bytes for each in found)


def _unnamed(root: Path, keep_runs: int) -> Iterator[Waste]:
    known = {(values["stage"], values["key"]): (folder, values) for folder, values in manifests(root)}
    kept = summaries(root)[-keep_runs:] if keep_runs else []
    named = [pair for _, values in kept for pair in values.get("artifacts", {}).items()]
    queue = [
        (ref.get("stage", name), ref["key"]) for name, ref in named
    ]  # a stage may make several: expert_0, expert_1
    queue += [name for name, (folder, _) in known.items() if _age(folder) < UNFINISHED_DAYS * DAY]
    living: set[tuple[str, str]] = set()
    while queue:
        name = queue.pop()
        if name not in living and name in known:
            living.add(name)
            queue += [(p["stage"], p["key"]) for p in known[name][1].get("parents", {}).values()]
    for name, (folder, _) in known.items():
        if name not in living:
            yield Waste(folder, f"no kept run names it (the newest {keep_runs} are kept)", size(folder))


def _old_scratch(root: Path) -> Iterator[Waste]:
    for folder in sorted((root / "scratch").glob("*/*")):
        if min(map(_age, [folder, *folder.rglob("*")])) > UNFINISHED_DAYS * DAY:
            yield Waste(folder, f"scratch untouched for {UNFINISHED_DAYS:.0f} days", size(folder))


def _age(path: Path) -> float:
    """Seconds since `path` was changed."""
    return time.time() - path.stat().st_mtime
