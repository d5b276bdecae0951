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
        queue.extend(found for found in _imports(name) if found.split(".")[0] in FIRST_PARTY)
    return frozenset(seen)


@functools.cache
def code_digest(module: str) -> str:
    """sha256 over the closure of `module`."""
    total = hashlib.sha256()
    for name in sorted(closure(module)):
        tree = _tree(name)
        total.update(f"{name}\0{ast.dump(_without_docstrings(tree))}\n".encode())
    return total.hexdigest()


@functools.cache
def library_versions(module: str) -> dict[str, str]:
    """Versions of the third-party distributions that the closure of `module` imports."""
    names = {found.split(".")[0] for name in closure(module) for found in _imports(name)}
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
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _tree(module: str) -> ast.Module:
    source = _source(module)
    if source is None:
        raise ModuleNotFoundError(module)
    return ast.parse(source.read_text())


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """Absolute names that `module` imports anywhere, also inside functions; `from a import b` yields a and a.b."""
    names: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


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
