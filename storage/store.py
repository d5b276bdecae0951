"""The content-addressed artifact store: the truth about what has been computed.

An artifact is a folder `artifacts/<stage>/<key>/` with a `manifest.json` written last. Its key is the hash of everything
that determines it (inputs by digest, settings, code, library versions); its digest is the hash of what came out. Stages
downstream depend on digests, so an output that did not change stops the recomputation there.

Publishing is one atomic rename of a folder built beside its destination. A lock per key lets two runs ask for the same
artifact: one builds, the other waits and reads. `scratch/<stage>/<key>/` survives a crash (checkpoints, journals of
unfinished work) and is removed when the artifact is published.
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
from typing import Any

from pydantic import BaseModel, ConfigDict

from storage.durable import sync_path
from thinkrec_core.errors import StoreError

MANIFEST = "manifest.json"
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
    manifest: dict[str, Any] = field(default_factory=dict)
    """Facts for the manifest beyond the store's own: rows, metrics, seeds."""

    @property
    def telemetry(self) -> Path:
        """Folder for files that may differ between equal runs."""
        folder = self.path / TELEMETRY
        folder.mkdir(exist_ok=True)
        return folder


class ArtifactStore:
    """Artifacts below `root`.

    Raises:
        StoreError: `root` cannot be created or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
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
        if not (folder / MANIFEST).is_file():
            return None
        manifest = self._manifest(folder)
        if manifest is None or _digest_files(folder, manifest["files"]) != manifest["digest"]:
            self._set_aside(folder)
            return None
        return ArtifactRef(stage=stage, key=key, digest=manifest["digest"])

    def path(self, ref: ArtifactRef) -> Path:
        """The folder of `ref`.

        Raises:
            StoreError: the artifact is gone.
        """
        folder = self._folder(ref.stage, ref.key)
        if not (folder / MANIFEST).is_file():
            raise StoreError(f"artifact {ref.stage}/{ref.key[:12]} is gone from {self.root}", next_step="run again")
        return folder

    def manifest(self, ref: ArtifactRef) -> dict[str, Any]:
        """The manifest of `ref` as a dictionary."""
        manifest = self._manifest(self.path(ref))
        if manifest is None:
            raise StoreError(f"manifest of {ref.stage}/{ref.key[:12]} is damaged", next_step="run again")
        return manifest

    @contextlib.contextmanager
    def locked(self, stage: str, key: str) -> Iterator[None]:
        """Hold the lock of one key; the kernel frees it when the process dies."""
        with (self.root / "locks" / f"{stage}-{key}").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def draft(self, stage: str, key: str) -> Draft:
        """A new draft for `key`; call with the key's lock held."""
        building = self.root / "building" / f"{stage}-{key}-{os.getpid()}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        scratch = self.root / "scratch" / stage / key
        scratch.mkdir(parents=True, exist_ok=True)
        return Draft(building, scratch)

    def publish(self, draft: Draft, stage: str, key: str, facts: Mapping[str, Any]) -> ArtifactRef:
        """Make `draft` the artifact of `key`: fsync, manifest last, one rename, scratch removed."""
        try:
            files = sorted(
                str(path.relative_to(draft.path))
                for path in draft.path.rglob("*")
                if path.is_file() and TELEMETRY not in path.relative_to(draft.path).parts
            )
            for path in draft.path.rglob("*"):
                if path.is_file():
                    sync_path(path)
            digest = _digest_files(draft.path, files)
            manifest = {"stage": stage, "key": key, "digest": digest, "files": files, **facts, **draft.manifest}
            target = draft.path / MANIFEST
            target.write_text(json.dumps(manifest, indent=1, sort_keys=True, default=str) + "\n")
            sync_path(target)
            folder = self._folder(stage, key)
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.rename(draft.path, folder)
            sync_path(folder.parent)
        except OSError as error:
            raise StoreError(
                f"stage {stage} could not be stored in {self.root} ({error.strerror})",
                next_step="free space or set THINKREC_HOME; finished stages are kept",
            ) from None
        shutil.rmtree(draft.scratch, ignore_errors=True)
        return ArtifactRef(stage=stage, key=key, digest=digest)

    def discard(self, draft: Draft) -> None:
        """Remove an unfinished draft; its scratch stays for the next try."""
        shutil.rmtree(draft.path, ignore_errors=True)

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / "artifacts" / stage / key

    def _manifest(self, folder: Path) -> dict[str, Any] | None:
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except (OSError, json.JSONDecodeError):
            return None
        return manifest if {"digest", "files"} <= manifest.keys() else None

    def _set_aside(self, folder: Path) -> None:
        damaged = self.root / "building" / f"damaged-{folder.parent.name}-{folder.name}-{time.time_ns()}"
        os.rename(folder, damaged)
        shutil.rmtree(damaged, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove drafts of processes that no longer live."""
        for path in (self.root / "building").iterdir():
            owner = path.name.rpartition("-")[2]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(path, ignore_errors=True)


def _digest_files(folder: Path, files: list[str]) -> str:
    total = hashlib.sha256()
    for name in files:
        try:
            with (folder / name).open("rb") as handle:
                total.update(f"{name}\0{hashlib.file_digest(handle, 'sha256').hexdigest()}\n".encode())
        except OSError:
            total.update(f"{name}\0missing\n".encode())
    return total.hexdigest()
