"""The digest of the code behind a stage: the first-party import closure of its module, as AST without docstrings.

Comments, formatting and docstrings change nothing; a changed statement in any imported helper does. Modules that only move
bytes or show progress (`PLUMBING`) are left out, so a nicer progress bar does not retrain a model.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

FIRST_PARTY = ("thinkrec_core", "storage", "tasks", "flows")
PLUMBING = frozenset(
    {
        "storage.catalog",
        "storage.code_digest",
        "storage.crash_points",
        "storage.disk_faults",
        "storage.durable",
        "storage.journal_writer",
        "storage.store",
        "storage.tracking",
        "tasks.stage",
        "tasks.teacher.progress",
        "tasks.view",
        "tasks.watch",
        "tasks.processes",
        "tasks.supervisor",
        "tasks.teacher.failed",
        "tasks.teacher.failures",
        "tasks.teacher.keys",
        "tasks.teacher.pace",
        "tasks.teacher.purse",
        "tasks.teacher.retries",
        "tasks.teacher.stopping",
        "thinkrec_core.errors",
        "thinkrec_core.config.root",
    }
)
DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "PyYAML"}
"""Import names whose distribution is named otherwise."""


@functools.cache
def closure(module: str) -> frozenset[str]:
    """Names of the first-party modules that `module` imports, itself included, plumbing excluded."""
    seen: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        if name in seen or name in PLUMBING or _source(name) is None:
            continue
        seen.add(name)
        queue.extend(found for found in _read(name)[1] if found.split(".")[0] in FIRST_PARTY)
    return frozenset(seen)


@functools.cache
def code_digest(module: str) -> str:
    """sha256 over the closure of `module`."""
    total = hashlib.sha256()
    for name in sorted(closure(module)):
        total.update(_read(name)[0])
    return total.hexdigest()


@functools.cache
def library_versions(module: str) -> dict[str, str]:
    """Versions of the third-party distributions that the closure of `module` imports."""
    names = {found.split(".")[0] for name in closure(module) for found in _read(name)[1]}
    versions = {}
    for name in sorted(names - set(FIRST_PARTY) - set(sys.stdlib_module_names)):
        distribution = DISTRIBUTIONS.get(name, name)
        try:
            versions[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def _source(module: str) -> Path | None:
    """The file of `module`; None for what is no module, such as a class in one.

    Looked for on the disk and not by `find_spec`, which would import the module that a class is in: torch, for most stages.
    """
    top, *below = module.split(".")
    spec = importlib.util.find_spec(top)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        place = Path(folder).joinpath(*below)
        for path in (place / "__init__.py", place.with_suffix(".py")) if below else (place / "__init__.py",):
            if path.is_file():
                return path
    return None


@functools.cache
def _read(module: str) -> tuple[bytes, frozenset[str]]:
    """What stands for `module` in a digest, and the absolute names that it imports anywhere, also inside functions.

    `from a import b` yields a and a.b. Stages share most of their modules, and parsing is what a rerun would spend.
    """
    source = _source(module)
    if source is None:
        raise ModuleNotFoundError(module)
    tree, names = ast.parse(source.read_text()), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return f"{module}\0{ast.dump(_without_docstrings(tree))}\n".encode(), frozenset(names)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                statement
                for statement in body
                if not (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                )
            ]
    return tree
