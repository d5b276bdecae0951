"""The content-addressed artifact store: the truth about what has been computed.

An artifact is a folder `artifacts/<stage>/<key>/` with a `manifest.json` written last. Its key is the hash of everything
that determines it (inputs by digest, settings, code, library versions); its digest is the hash of what came out. Stages
downstream depend on digests, so an output that did not change stops the recomputation there.

Publishing is one atomic rename of a folder built beside its destination. A lock per key lets two runs ask for the same
artifact: one builds, the other waits and reads. `scratch/<stage>/<key>/` survives a crash (checkpoints, journals of
unfinished work) and is removed when the artifact is published.

Every process verifies an artifact before its first read: each file against its digest, the manifest against its seal. One
that changed on the disk is set aside, and its stage is built again by the same run or the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict

from storage.crash_points import reached
from storage.durable import sync_path
from storage.file_digests import file_digest
from thinkrec_core.errors import StoreError

MANIFEST = "manifest.json"
SEAL = "seal"
"""Key of the manifest that holds the sha256 of all its other entries."""
FORMAT = "format"
"""Key of the manifest that says it is sealed, so that damage to the name of the seal does not pass for an older manifest."""
DOOMED = "doomed-"
"""Prefix of folders in building/ that are being removed."""
TELEMETRY = "telemetry"
"""Sub-folder of an artifact for what differs between equal runs (times, latencies, ids); outside the digest."""


class ArtifactRef(BaseModel):
    """The name of a published artifact: what tasks pass to each other instead of data."""

    model_config = ConfigDict(frozen=True)

    stage: str
    key: str
    digest: str


@dataclass
class Draft:
    """An artifact under construction: write files below `path`, resumable state below `scratch`."""

    path: Path
    scratch: Path
    lock: int
    """Descriptor of the key's lock. A child process that writes to the draft inherits it (`Child.start(held=...)`), so that
    after a kill -9 of the run nobody builds the same key before the child is gone too."""
    manifest: dict[str, Any] = field(default_factory=dict)
    """Facts for the manifest beyond the store's own: rows, metrics, seeds."""

    @property
    def telemetry(self) -> Path:
        """Folder for files that may differ between equal runs."""
        folder = self.path / TELEMETRY
        with _told(f"no folder can be made in {self.path}"):
            folder.mkdir(exist_ok=True)
        return folder


class ArtifactStore:
    """Artifacts below `root`.

    Raises:
        StoreError: `root` cannot be created or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: set[tuple[str, str]] = set()
        self._held: dict[tuple[str, str], int] = {}
        try:
            for name in ("artifacts", "building", "scratch", "locks"):
                (root / name).mkdir(parents=True, exist_ok=True)
            probe = root / "building" / f".write-probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"store folder {root} is not writable ({error.strerror})",
                "a folder that can be written",
                "set THINKREC_HOME to one",
            ) from None
        self._sweep()

    def find(self, stage: str, key: str) -> ArtifactRef | None:
        """The artifact published under `key`, or None. An artifact whose bytes changed is set aside and not found."""
        folder = self._folder(stage, key)
        if not folder.is_dir():
            return None
        manifest = self._manifest(folder)
        if manifest is None or not self._intact(folder, manifest):
            self._set_aside(folder)
            return None
        return ArtifactRef(stage=stage, key=key, digest=manifest["digest"])

    def path(self, ref: ArtifactRef) -> Path:
        """The folder of `ref`, verified before this process reads it for the first time.

        Raises:
            StoreError: the artifact is gone, is another one, or changed on the disk; it is set aside then.
        """
        if (ref.stage, ref.key) not in self._verified:
            self.manifest(ref)
        folder = self._folder(ref.stage, ref.key)
        if not (folder / MANIFEST).is_file():
            raise StoreError(f"artifact {ref.stage}/{ref.key[:12]} is gone from {self.root}", next_step="run again")
        return folder

    def manifest(self, ref: ArtifactRef) -> dict[str, Any]:
        """The manifest of `ref` as a dictionary, after its files were verified.

        Raises:
            StoreError: as `path`.
        """
        name, folder = f"{ref.stage}/{ref.key[:12]}", self._folder(ref.stage, ref.key)
        if not folder.is_dir():
            raise StoreError(f"artifact {name} is gone from {self.root}", next_step="run again")
        manifest = self._manifest(folder)
        if manifest is None or not self._intact(folder, manifest):
            self._set_aside(folder)
            raise StoreError(f"artifact {name} changed on the disk and was set aside", next_step="run again")
        if manifest["digest"] != ref.digest:
            raise StoreError(f"artifact {name} has digest {manifest['digest'][:12]}", ref.digest[:12], "run again")
        return manifest

    @contextlib.contextmanager
    def locked(self, stage: str, key: str) -> Iterator[None]:
        """Hold the lock of one key; the kernel frees it when the process dies."""
        with self._lock_file(f"{stage}-{key}") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self._held[stage, key] = handle.fileno()
            try:
                yield
            finally:
                del self._held[stage, key]

    @contextlib.contextmanager
    def in_use(self, alone: bool = False) -> Iterator[None]:
        """Hold the store for a run; any number of runs may, but whoever removes artifacts must be `alone`.

        Raises:
            StoreError: the store is held and `alone` was asked for, or the other way round.
        """
        with self._lock_file("in-use") as handle:
            try:
                fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                by = "a run" if alone else "thinkrec artifacts gc"
                raise StoreError(f"store {self.root} is in use by {by}", next_step="wait until it has ended") from None
            yield

    def draft(self, stage: str, key: str) -> Draft:
        """A new draft for `key`; call with the key's lock held by `locked`.

        Raises:
            StoreError: the disk refuses.
        """
        building = self.root / "building" / f"{stage}-{key}-{os.getpid()}"
        scratch = self.root / "scratch" / stage / key
        shutil.rmtree(building, ignore_errors=True)
        with _told(f"stage {stage} could not be written below {self.root}"):
            building.mkdir()
            try:
                scratch.mkdir(parents=True, exist_ok=True)
            except OSError:
                shutil.rmtree(building, ignore_errors=True)
                raise
        return Draft(building, scratch, self._held[stage, key])

    def publish(self, draft: Draft, stage: str, key: str, facts: Mapping[str, Any]) -> ArtifactRef:
        """Make `draft` the artifact of `key`: fsync, manifest last, one rename, scratch removed.

        Raises:
            StoreError: the disk refuses; nothing is published then.
        """
        with _told(f"stage {stage} could not be stored in {self.root}"):
            reached(f"{stage}/publish.begin")
            files = sorted(
                str(path.relative_to(draft.path))
                for path in draft.path.rglob("*")
                if path.is_file() and TELEMETRY not in path.relative_to(draft.path).parts
            )
            digest = _digest_files(draft.path, files)
            manifest = {"stage": stage, "key": key, "digest": digest, "files": files, **facts, **draft.manifest}
            manifest[FORMAT] = 2
            manifest = json.loads(json.dumps(manifest, default=str))
            manifest[SEAL] = _seal(manifest)
            # Files first, then the folders that name them, then the manifest: what it vouches for is on the disk.
            below = [draft.path, *draft.path.rglob("*")]
            for path in [*filter(Path.is_file, below), *filter(Path.is_dir, below)]:
                sync_path(path)
            reached(f"{stage}/publish.synced")
            target = draft.path / MANIFEST
            target.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            sync_path(target)
            sync_path(draft.path)
            reached(f"{stage}/publish.sealed")
            folder = self._folder(stage, key)
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.rename(draft.path, folder)
            reached(f"{stage}/publish.renamed")
            sync_path(folder.parent)
            sync_path(folder.parent.parent)
        self._verified.add((stage, key))
        shutil.rmtree(draft.scratch, ignore_errors=True)
        reached(f"{stage}/publish.done")
        return ArtifactRef(stage=stage, key=key, digest=digest)

    def discard(self, draft: Draft) -> None:
        """Remove an unfinished draft; its scratch stays for the next try."""
        shutil.rmtree(draft.path, ignore_errors=True)

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / "artifacts" / stage / key

    def _manifest(self, folder: Path) -> dict[str, Any] | None:
        """The manifest in `folder`; None if it is missing, no JSON, or not what was sealed. Older ones have no seal."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(manifest, dict) or not {"digest", "files"} <= manifest.keys():
            return None
        sealed = SEAL in manifest or FORMAT in manifest
        return None if sealed and manifest.get(SEAL) != _seal(manifest) else manifest

    def _intact(self, folder: Path, manifest: Mapping[str, Any]) -> bool:
        try:
            if _digest_files(folder, manifest["files"]) != manifest["digest"]:
                return False
        except OSError:
            return False
        self._verified.add((folder.parent.name, folder.name))
        return True

    def _set_aside(self, folder: Path) -> None:
        self._verified.discard((folder.parent.name, folder.name))
        with _told(f"damaged artifact {folder.parent.name}/{folder.name[:12]} could not be set aside"):
            remove_whole(self.root, folder)

    def _sweep(self) -> None:
        """Remove what dead processes left: drafts whose key nobody has locked, half-removed artifacts, scratch of the published.

        A process id would not do as a sign of life: in containers that share a store every run may have the same one.
        """
        for path in (self.root / "building").iterdir():
            owner = path.name.rpartition("-")[0]
            if path.is_dir() and (path.name.startswith(DOOMED) or not self._is_locked(owner)):
                shutil.rmtree(path, ignore_errors=True)
        for path in (self.root / "scratch").glob("*/*"):
            stage, key = path.parent.name, path.name
            if (self._folder(stage, key) / MANIFEST).is_file() and not self._is_locked(f"{stage}-{key}"):
                shutil.rmtree(path, ignore_errors=True)

    def _is_locked(self, name: str) -> bool:
        try:
            with (self.root / "locks" / name).open("w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False

    @contextlib.contextmanager
    def _lock_file(self, name: str) -> Iterator[IO[str]]:
        # A lock file is never unlinked: who waits for it would hold the lock of a file that is no longer there.
        with _told(f"no lock can be made in {self.root}"):
            handle = (self.root / "locks" / name).open("w")
        with handle:
            yield handle


def remove_whole(root: Path, folder: Path) -> None:
    """Remove `folder` of the store at `root`: renamed away first, so that half of it never looks like an artifact.

    Raises:
        OSError: the disk refuses the rename.
    """
    doomed = root / "building" / f"{DOOMED}{folder.parent.name}-{folder.name}-{time.time_ns()}"
    with contextlib.suppress(FileNotFoundError):  # another process was first
        os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn an OSError of the block into one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{what} ({error.strerror})", next_step="free space or set THINKREC_HOME; finished stages are kept"
        ) from None


def _digest_files(folder: Path, files: list[str]) -> str:
    """sha256 over names and contents.

    Raises:
        OSError: a file is gone or cannot be read.
    """
    total = hashlib.sha256()
    for name in files:
        total.update(f"{name}\0{file_digest(folder / name)}\n".encode())
    return total.hexdigest()


def _seal(manifest: Mapping[str, Any]) -> str:
    entries = {name: value for name, value in manifest.items() if name != SEAL}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
