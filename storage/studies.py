"""Searches that outlive their process: one folder per study, `tuning/<name>/` below the store, with Optuna's journal.

    journal.log    every trial, appended line by line as it happens
    best.yaml      settings of the best trial so far, as `--config` takes them

One process works on a study at a time, which the kernel's lock on the folder ensures; Optuna's own lock files would outlive
a kill. Whatever a killed process was doing when it died is closed as failed and drawn again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from storage.disk_faults import disk_faults
from thinkrec_core.errors import StoreError

if TYPE_CHECKING:
    from optuna import Study

FOLDER = "tuning"
JOURNAL = "journal.log"


@contextlib.contextmanager
def open_study(root: Path, name: str) -> Iterator[tuple[Study, Path]]:
    """The study `name` of the store at `root` and its folder, held by this process; larger values are better.

    Raises:
        StoreError: another process holds the study, or its journal cannot be read or written.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = root / FOLDER / name
    with disk_faults(f"study {name}", root):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"study {name} is in use by another run", next_step="wait until it has ended"
                ) from None
            journal = folder / JOURNAL
            _end_last_line(journal)
            try:
                backend = JournalFileBackend(str(journal), lock_obj=_Held())  # type: ignore[arg-type]
                study = optuna.create_study(
                    storage=JournalStorage(backend), study_name=name, direction="maximize", load_if_exists=True
                )
                _close_killed(study)
            except (ValueError, KeyError) as error:
                raise StoreError(
                    f"{journal} cannot be read ({error})", "the journal of a study", f"remove {folder} to search anew"
                ) from None
            yield study, folder


class _Held:
    """Optuna's lock where the process holds the study already."""

    def acquire(self) -> bool:
        """Nobody else writes."""
        return True

    def release(self) -> None:
        """The lock of the study stays."""


def _end_last_line(journal: Path) -> None:
    """Remove what a crash left of a last line: anything appended to it would be unreadable with it."""
    if not journal.is_file():
        return
    with journal.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            file.flush()
            os.fsync(file.fileno())


def _close_killed(study: Study) -> None:
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
