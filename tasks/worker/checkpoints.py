"""The pointer to an engine's last complete checkpoint: it moves last, so that a kill at any moment leaves one to resume from."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from storage.crash_points import reached
from storage.durable import sync_path, write_whole
from thinkrec_core.errors import TrainingError
from thinkrec_core.recllm.training import LoopState

LATEST = "latest.json"
GRADIENT_NORM = 1.0
"""Differs: gradients are clipped to this norm; the method names no clipping."""


def checkpoint_tag(state: LoopState) -> str:
    """Name of the folder of the checkpoint at `state`."""
    return f"step-{state.step:08d}"


def point_to(folder: Path, tag: str, state: LoopState) -> None:
    """Make checkpoint `tag` of `folder` the one to resume from, then remove the older ones."""
    reached("worker/checkpoint.saved")
    for path in (folder / tag).rglob("*"):
        sync_path(path)
    write_whole(folder / LATEST, json.dumps({"tag": tag, "state": state.as_dict()}))
    reached("worker/checkpoint.pointed")
    for old in folder.glob("step-*"):
        if old.name != tag:
            shutil.rmtree(old, ignore_errors=True)


def last_checkpoint(folder: Path) -> tuple[str, LoopState] | None:
    """Tag and state of the last complete checkpoint, or None.

    Raises:
        TrainingError: the pointer is damaged.
    """
    if not (folder / LATEST).is_file():
        return None
    with readable(folder / LATEST):
        pointer = json.loads((folder / LATEST).read_text())
        return pointer["tag"], LoopState.from_dict(pointer["state"])


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tells in one line that the checkpoint `path`, read inside, is truncated or belongs to another training.

    Raises:
        TrainingError: reading failed.
    """
    try:
        yield
    except Exception as error:  # zip, pickle, JSON, torch and DeepSpeed each have their own
        raise TrainingError(
            f"checkpoint {path} cannot be read ({type(error).__name__}: {error})",
            "a whole checkpoint of this training",
            f"remove {path.parent} to begin this phase anew",
        ) from error
