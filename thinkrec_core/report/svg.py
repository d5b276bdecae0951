"""Matplotlib figures as inline SVG that follows the page: its font, its colours, light or dark.

A figure is drawn in stand-in colours, each the name of a CSS variable in disguise; the SVG text then names the
variables. The same figure gives the same bytes: no date, no random ids.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#0a0001", "#0a0002", "#0a0003", "#0a0004", "#0a0005", "#0a0006")
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    **{color: f"var(--series-{index})" for index, color in enumerate(SERIES)},
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "thinkrec",
    "text.parse_math": False,
    "font.size": 10.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}
WIDTH = 380
"""Points; the viewBox of every figure: type of one size that is still read on a phone."""


def draw(name: str, label: str, height: float, paint: Callable[[Figure], None]) -> str:
    """The `<svg>` element that `paint(figure)` draws.

    Args:
        name: prefix of the ids inside, unique on the page.
        label: what the picture shows, for screen readers.
        height: points; the width is `WIDTH`.
        paint: adds axes to the figure in the stand-in colours of this module.
    """
    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        FigureCanvasSVG(picture)
        paint(picture)
        buffer = io.StringIO()
        picture.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r"#[0-9a-f]{6}", lambda found: VARIABLES.get(found.group(), found.group()), body)
    view = re.search(r'viewBox="([^"]+)"', text)
    box = view.group(1) if view else f"0 0 {WIDTH} {height}"
    head = f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}">'
    return head + body.strip()


def series_color(index: int) -> str:
    """The stand-in colour of series `index`; they repeat after six."""
    return SERIES[index % len(SERIES)]


def quiet(axes: Axes, grid: str = "y") -> None:
    """Light grid lines behind the data, no tick marks."""
    axes.grid(axis=grid)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
