"""A bundle: what is needed to use a trained recommender, in one folder, and nothing that could run code.

bundle.json                                       format, run, config, base model, experts, metrics, sha256 of every file
items.parquet, users.parquet, seen.parquet        titles; raw user ids with their newest history; what a user has rated
encoder/                                          weights, vectors, encoder.json, signals.safetensors, the fitted prior
general/, expert_N/                               adapter (PEFT), projector.safetensors, recllm.json
clusters/                                         clusters, centroids, cosines of users with them; `config` has the router
window.json                                       profile of the valid rows, to tell drift from

Only .json, .parquet and .safetensors files are written, and no others are read. The base model is named by id and digest, not
copied.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.bundle_tables import write_users
from storage.file_digests import file_digest, joint_digest
from storage.new_folder import new_folder
from storage.prior_data import PRIOR
from storage.window import WINDOW, profile_of
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import DataError, one_line

MANIFEST = "bundle.json"
FORMAT, VERSION = "thinkrec-bundle", 3
"""A change of the prompts is a new version: weights are good for the words they were trained on."""
ALLOWED = frozenset({".json", ".parquet", ".safetensors"})
MOST_FILES = 10_000
ENCODER_FILES = ("weights.safetensors", "vectors.safetensors", "encoder.json")
ADAPTER_FILES = (
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "projector.safetensors",
    "recllm.json",
)
CLUSTER_FILES = ("clusters.parquet", "clusters.json", "centroids.safetensors")
FIGURES = ("auc", "auc_ci", "uauc", "uauc_ci", "log_loss")


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on this machine."""

    path: Path
    facts: dict[str, Any]
    """bundle.json."""

    @property
    def run(self) -> str:
        """Name of the run that trained it."""
        return str(self.facts["run"])

    @property
    def digest(self) -> str:
        """sha256 over its files by name and content."""
        return joint_digest(self.facts["files"])

    @property
    def config(self) -> ThinkRecConfig:
        """Configuration of that run."""
        return ThinkRecConfig.model_validate(self.facts["config"])

    @property
    def experts(self) -> list[int]:
        """Numbers of the experts, in the order of the gates' columns."""
        return [int(number) for number in self.facts["experts"]]


def export_bundle(root: Path, summary: Mapping[str, Any], out: Path) -> Path:
    """Write the bundle of a finished run to the new folder `out`, or as a tar where `out` ends with .tar; returns `out`.

    Args:
        root: of the store that holds the run's artifacts.
        summary: runs/<run>.json.

    Raises:
        DataError: the run trained no LLM, an artifact is gone, or `out` cannot be written.
    """
    stages = summary.get("artifacts", {})
    if "general" not in stages or "config" not in summary:
        raise DataError(f"run {summary['run']} has no trained LLM with its configuration", "a run of thinkrec run")
    if out.suffix == ".tar":
        if out.exists():
            raise DataError(f"--out {out} is there already", "a new file", "choose another or remove it")
        with tempfile.TemporaryDirectory(dir=_parent(out), prefix=".bundle-") as scratch:
            folder = export_bundle(root, summary, Path(scratch) / "bundle")
            _pack(folder, out)
        return out
    folders = {name: root / "artifacts" / each["stage"] / each["key"] for name, each in stages.items()}
    data = folders.get("keywords", folders["data"])
    experts = sorted(int(stage.removeprefix("expert_")) for stage in stages if stage.startswith("expert_"))
    parts = [("encoder", ENCODER_FILES), ("clusters", CLUSTER_FILES), ("general", ADAPTER_FILES)]
    parts += [(f"expert_{number}", ADAPTER_FILES) for number in experts]
    config = ThinkRecConfig.model_validate(summary["config"])
    with new_folder(out) as building:
        try:
            for part, names in parts:
                for name in names:
                    (building / part / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(folders[part] / name, building / part / name)
            prior = folders.get("prior", folders["encoder"]) / PRIOR  # that of an extended encoder lies beside it
            if prior.is_file() or "prior" in folders:
                shutil.copyfile(prior, building / "encoder" / PRIOR)
            shutil.copyfile(data / "items.parquet", building / "items.parquet")
        except FileNotFoundError as error:
            raise DataError(
                f"{error.filename} is gone",
                f"the artifacts of run {summary['run']}",
                "rerun it: it builds what is missing",
            ) from None
        write_users(data, folders["encoder"], config, building)
        (building / WINDOW).write_text(json.dumps(profile_of(data), sort_keys=True) + "\n", encoding="utf-8")
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "run": summary["run"],
            "config": summary["config"],
            "base": {"model": config.llm.model, "digest": _base_digest(folders["general"])},
            "experts": experts,
            "metrics": {name: {key: rung.get(key) for key in FIGURES} for name, rung in summary["rungs"].items()},
            "rows": summary["rows"],
            "files": _files(building),
        }
        (building / MANIFEST).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return out


def import_bundle(source: Path, out: Path) -> Bundle:
    """Copy the bundle at `source`, a folder or a tar, to the new folder `out`, and verify it there.

    A tar is unpacked by Python's data filter: no absolute paths, no links out of the folder, no devices.

    Raises:
        DataError: `source` is no bundle, holds files of another kind, or a file is not what bundle.json says.
    """
    with new_folder(out) as building:
        if source.is_dir():
            open_bundle(source)
            for name in [*json.loads((source / MANIFEST).read_text(encoding="utf-8"))["files"], MANIFEST]:
                (building / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, building / name)
        else:
            _unpack(source, building)
        open_bundle(building)
    return open_bundle(out)


def open_bundle(path: Path) -> Bundle:
    """The bundle in the folder `path`, every file verified.

    Raises:
        DataError: it is no bundle of a known version, a file is missing, changed, unknown, or of another kind.
    """
    try:
        facts = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = dict(facts["files"])
        known = (facts["format"], facts["version"]) == (FORMAT, VERSION)
        ThinkRecConfig.model_validate(facts["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no bundle ({one_line(str(error), 120)})", f"a folder with {MANIFEST}") from None
    if not known:
        raise DataError(
            f"{path} is {facts['format']} version {facts['version']}",
            f"{FORMAT} version {VERSION}",
            "train and export anew",
        )
    found = {str(each.relative_to(path)) for each in path.rglob("*") if not each.is_dir() or each.is_symlink()}
    for name in sorted(found ^ {*files, MANIFEST}):
        raise DataError(f"{path} has {'an unknown' if name in found else 'no'} file {name}", f"the files of {MANIFEST}")
    for name, expected in files.items():
        each = path / name
        if each.suffix not in ALLOWED or each.is_symlink():
            raise DataError(f"{path} holds {name}", "plain .json, .parquet and .safetensors files")
        if file_digest(each) != expected:
            raise DataError(f"{each} is not the file that was exported", f"sha256 {expected[:16]}...", "copy it again")
    return Bundle(path, facts)


def _files(folder: Path) -> dict[str, str]:
    return {str(each.relative_to(folder)): file_digest(each) for each in sorted(folder.rglob("*")) if each.is_file()}


def _base_digest(general: Path) -> str:
    """Digest of the base model, from the inputs of the stage that trained on it."""
    manifest = json.loads((general / "manifest.json").read_text(encoding="utf-8"))
    return str(manifest["inputs"]["model"])


def _parent(out: Path) -> Path:
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {out} cannot be written ({error.strerror})", "a folder that can be written") from None
    return out.absolute().parent


def _pack(folder: Path, out: Path) -> None:
    """A tar with the same bytes for the same bundle."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:
            for each in sorted(path for path in folder.rglob("*") if path.is_file()):
                entry = archive.gettarinfo(each, arcname=str(each.relative_to(folder)))
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                entry.mtime, entry.mode = 0, 0o644
                with each.open("rb") as content:
                    archive.addfile(entry, content)
        partial.replace(out)
    except OSError as error:
        raise DataError(f"--out {out} cannot be written ({error.strerror})", "a file that can be written") from None
    finally:
        partial.unlink(missing_ok=True)


def _unpack(source: Path, folder: Path) -> None:
    try:
        with tarfile.open(source, "r:") as archive:
            members = archive.getmembers()
            if len(members) > MOST_FILES:
                raise DataError(f"{source} holds {len(members)} files", f"at most {MOST_FILES}")
            for member in members:
                if not member.isfile() or Path(member.name).suffix not in ALLOWED:
                    raise DataError(
                        f"{source} holds {one_line(member.name, 80)}", f"files of {', '.join(sorted(ALLOWED))}"
                    )
            archive.extractall(folder, members, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{source} cannot be read ({one_line(str(error), 120)})", "a bundle as folder or tar") from None
