"""The code of a stage is found without running it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from storage.code_digest import _source, closure

ROOT = Path(__file__).parents[2]
LOOK = """
import sys
from storage.code_digest import code_digest
code_digest("tasks.train_llm"), code_digest("tasks.evaluate")
print([name for name in ("torch", "transformers", "peft", "tasks.train_llm") if name in sys.modules])
"""


def test_a_digest_imports_nothing_of_what_it_covers() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_module_is_a_file_a_package_its_init_and_a_class_neither() -> None:
    assert _source("storage.store") == ROOT / "storage" / "store.py"
    assert _source("tasks.teacher") == ROOT / "tasks" / "teacher" / "__init__.py"
    assert _source("storage.store.ArtifactStore") is None
    assert _source("no_such_package.module") is None
    assert {"tasks.worker.train", "thinkrec_core.recllm.training", "storage.rec_data"} <= closure("tasks.train_llm")
