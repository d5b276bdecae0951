"""What a run leaves in Prefect's pages: a table per stage, the result as markdown, and the progress of long stages.

Pages tell about a run, the artifact store is the run: a page that cannot be written is a line in the log.
"""

from __future__ import annotations

import contextlib
import html
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext

from tasks.view import Advance
from thinkrec_core.errors import one_line

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0
"""Between two updates of a progress bar: each is a request."""


def stage_page(name: str, status: str, seconds: float, manifest: Mapping[str, Any]) -> None:
    """A table with what is known about a stage: status, seconds, rows, memory, digests, and its run in MLflow."""
    rows = manifest.get("rows", {})
    counted = rows if isinstance(rows, Mapping) else {"rows": rows}
    facts = {
        "status": status,
        "seconds of this run": round(seconds, 2),
        "seconds when built": manifest.get("seconds"),
        "peak memory (MB)": manifest.get("peak_rss_mb"),
        **{f"rows {name}" if name != "rows" else name: count for name, count in counted.items()},
        "digest": manifest.get("digest", "")[:16],
        "key": manifest.get("key", ""),
        "MLflow run": manifest.get("mlflow_run", ""),
        "made from": ", ".join(sorted(manifest.get("parents", {}))) or "sources",
    }
    table = [{"what": what, "value": "" if value is None else str(value)} for what, value in facts.items()]
    _write(
        lambda: create_table_artifact(
            table, key=_key(f"stage-{name}"), description=f"Stage {_plain(name)}: {_plain(status)}"
        )
    )


def run_page(name: str, preset: str, summary: Mapping[str, Any]) -> None:
    """The rungs of the finished run `name`, its report and its run in MLflow, as markdown."""
    lines = [f"# {_plain(name)}", "", _plain(summary.get("headline", "")), ""]
    if summary.get("rungs"):
        lines += ["| rung | AUC | 95% interval | UAUC |", "|---|---|---|---|"]
        for rung, figures in summary["rungs"].items():
            low, high = figures.get("auc_ci") or (None, None)
            auc, uauc = _figure(figures.get("auc")), _figure(figures.get("uauc"))
            lines.append(f"| {_plain(rung)} | {auc} | {_figure(low)} to {_figure(high)} | {uauc} |")
    report, tracked = _plain(summary.get("report", "none")), _plain(summary.get("mlflow_run", "") or "none")
    lines += ["", f"Report: {report}", "", f"MLflow run: {tracked}"]
    _write(lambda: create_markdown_artifact("\n".join(lines), key=_key(f"run-{preset}")))


def promotion_page(told: Mapping[str, Any]) -> None:
    """What was decided about a registered version, and on which figures, as a table."""
    table = [{"what": name.replace("_", " "), "value": str(value)} for name, value in told.items() if value is not None]
    described = _plain(f"{told['model']} version {told['version']}: {told['decision']}")
    _write(lambda: create_table_artifact(table, key=_key(f"promotion-{told['model']}"), description=described))


@contextlib.contextmanager
def progress_page(description: str, total: int) -> Iterator[Advance]:
    """A progress bar in Prefect's pages; the yielded function takes (completed=..., note=...)."""
    found = _write(lambda: create_progress_artifact(0.0, key=_key(description), description=_plain(description)))
    last = time.monotonic()

    def advance(completed: int | None = None, note: str = "") -> None:
        nonlocal last
        if isinstance(found, UUID) and completed is not None and time.monotonic() - last > PAUSE_SECONDS:
            last = time.monotonic()
            share = 100.0 * min(completed, total) / max(total, 1)
            _write(lambda: update_progress_artifact(found, share, _plain(f"{description} {note}".strip())))

    yield advance
    if isinstance(found, UUID):
        _write(lambda: update_progress_artifact(found, 100.0))


def _write(call: Callable[[], Any]) -> Any:
    if FlowRunContext.get() is None:
        return None
    try:
        return call()
    except Exception as error:
        logger.warning("a page for Prefect was not written (%s); the run goes on", one_line(str(error), 200))
        return None


def _plain(text: object) -> str:
    """`text` for a page that Prefect renders as markdown: it stays the text that it is, titles and paths too."""
    return re.sub(r"([\\\\`*_\[\]()#|~!])", r"\\\1", html.escape(one_line(str(text), 2000), quote=False))


def _key(name: str) -> str:
    """`name` in the letters that Prefect allows in keys."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
