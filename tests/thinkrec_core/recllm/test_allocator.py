"""Freed memory stays with the process: the same tensors again ask the system for no page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import resource, torch
from thinkrec_core.recllm.allocator import keep_freed_memory
assert keep_freed_memory()
def work():
    parts = [torch.ones(3 << 20) for _ in range(4)]  # 12 MiB each, 12,288 pages in all
    return sum(float(part[0]) for part in parts)
for _ in range(5):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is an option of Linux' C library")
def test_pages_are_asked_for_once() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000
