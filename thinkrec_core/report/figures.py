"""The pictures of a report: the ladder with intervals, curves by step, the map of users, gate weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from thinkrec_core.experts.router import CONCENTRATION, ENTROPY_SHARE
from thinkrec_core.report.svg import INK, MUTED, PAPER, RULE, draw, quiet, series_color
from thinkrec_core.report.values import Training
from thinkrec_core.report.words import is_llm, rung_name

MAX_POINTS = 60
"""Points of a training curve; longer ones show means over equal stretches of steps."""
PLATE = {"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none"}
"""What small labels stand on, so that lines below do not cross them."""


def ladder_figure(evaluation: Mapping[str, Any], figure: str) -> str:
    """One row per rung: the value of `figure` ("auc" or "uauc") with its 95% interval, the floor as a dashed line."""
    rungs, floor = evaluation["rungs"], evaluation["floor"]
    names = [name for name in rungs if rungs[name][figure] is not None]

    def paint(picture: Figure) -> None:
        axes = picture.add_subplot()
        for place, name in enumerate(reversed(names)):
            value, bounds = rungs[name][figure], rungs[name].get(f"{figure}_ci")
            color = series_color(0) if is_llm(name) else MUTED
            if bounds:
                axes.plot(bounds, [place, place], color=color, linewidth=2.4, alpha=0.55)
            axes.plot([value], [place], "o", color=color, markersize=6, markeredgecolor=PAPER, markeredgewidth=1)
            at = (value, place)
            axes.annotate(f"{value:.3f}", at, (0, 6), textcoords="offset points", ha="center", fontsize=9.5, bbox=PLATE)
        if rungs[floor][figure] is not None:
            axes.axvline(rungs[floor][figure], color=INK, linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
        axes.set_yticks(range(len(names)), [rung_name(name) for name in reversed(names)])
        axes.set_ylim(-0.6, len(names) - 0.2)
        axes.tick_params(axis="y", labelcolor=INK, pad=6)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(_locator(5))
        quiet(axes, "x")

    label = f"{figure.upper()} of {len(names)} rungs with 95% intervals"
    return draw(f"ladder-{figure}", label, 40 + 31 * max(len(names), 1), paint)


def loss_figure(name: str, trainings: Sequence[Training]) -> str:
    """Train log-loss by step, and below it the cross-entropy of reasoning batches where there were any; "" without."""
    parts = (("bce", None, "Log-loss of the label"), ("ce", "reasoning", "Cross-entropy of verdict and reasons"))
    shown = [part for part in parts if any(len(_train_curve(t, *part[:2])[0]) for t in trainings)]
    if not shown:
        return ""

    def paint(picture: Figure) -> None:
        rows = np.atleast_1d(picture.subplots(len(shown), 1, sharex=True))
        for axes, (key, kind, title) in zip(rows, shown, strict=True):
            for index, training in enumerate(trainings):
                steps, values = _train_curve(training, key, kind)
                axes.plot(steps, values, color=series_color(index), label=training.name)
            axes.set_title(title)
            quiet(axes)
        _phases(rows[0], trainings)
        _finish(rows[-1], rows[0], trainings)

    return draw(f"loss-{name}", "Training loss by optimiser step", 60 + 125 * len(shown), paint)


def valid_figure(name: str, trainings: Sequence[Training]) -> str:
    """AUC and UAUC on the valid rows by step, the chosen checkpoint ringed; "" if nothing was validated."""
    shown = [key for key in ("auc", "uauc") if any(len(_valid_curve(t, key)[0]) for t in trainings)]
    if not shown:
        return ""

    def paint(picture: Figure) -> None:
        rows = np.atleast_1d(picture.subplots(len(shown), 1, sharex=True))
        for axes, key in zip(rows, shown, strict=True):
            for index, training in enumerate(trainings):
                steps, values = _valid_curve(training, key)
                color = series_color(index)
                axes.plot(steps, values, "o-", color=color, markersize=3.5, label=training.name)
                best = _best(training, steps)
                if best is not None:
                    axes.plot(steps[best], values[best], "o", mfc="none", mec=color, markersize=10)
            axes.set_title(f"Valid {key.upper()}")
            axes.margins(y=0.18)
            quiet(axes)
        _phases(rows[0], trainings)
        _finish(rows[-1], rows[0], trainings)

    return draw(f"valid-{name}", "Validation figures by optimiser step", 60 + 125 * len(shown), paint)


def map_figure(clusters: Mapping[str, Any], tsne: bool = False) -> str:
    """Users in the plane of the first two principal components or of their t-SNE, one colour and one number per cluster.

    "" where there are none.
    """
    known = clusters.get("map") or {}
    points = known.get("tsne", {}) if tsne else known
    if not points.get("x"):
        return ""
    x, y, cluster = np.asarray(points["x"]), np.asarray(points["y"]), np.asarray(known["cluster"])

    def paint(picture: Figure) -> None:
        axes = picture.add_subplot()
        for index in np.unique(cluster):
            own = cluster == index
            axes.plot(x[own], y[own], "o", color=series_color(int(index)), markersize=3.6, alpha=0.5, markeredgewidth=0)
        for index in np.unique(cluster):
            own = cluster == index
            at = (float(x[own].mean()), float(y[own].mean()))
            box = {"boxstyle": "circle,pad=0.3", "facecolor": PAPER, "edgecolor": series_color(int(index))}
            axes.annotate(str(index), at, ha="center", va="center", fontweight="bold", bbox=box)
        if not tsne:
            axes.set_xlabel("first component")
            axes.set_ylabel("second component")
        axes.tick_params(labelbottom=False, labelleft=False)
        quiet(axes, "both")

    return draw("tsne" if tsne else "map", f"{len(x)} users by cluster", 300, paint)


def gate_figure(clusters: Mapping[str, Any]) -> str:
    """How many users have which largest gate weight, before the routing rule; "" without clusters."""
    n = max(clusters.get("count", 1), 1)
    return _gate_histogram(
        clusters,
        "top_weight_histogram",
        at=CONCENTRATION[0] + CONCENTRATION[1] / n,
        start=1 / n - 0.05,
        label="largest gate weight of a user",
        name="gates",
        title="Histogram of the largest gate weight",
    )


def entropy_figure(clusters: Mapping[str, Any]) -> str:
    """How many users have which entropy of the gate weights, over ln N; "" without clusters."""
    return _gate_histogram(
        clusters,
        "entropy_histogram",
        at=ENTROPY_SHARE,
        start=0,
        label="entropy of a user's gate weights, as a share of ln N",
        name="entropy",
        title="Histogram of the entropy of the gate weights",
    )


def _gate_histogram(
    clusters: Mapping[str, Any], key: str, *, at: float, start: float, label: str, name: str, title: str
) -> str:
    """Users by a figure of their gates between 0 and 1, with the router's limit `at`; the axis begins at `start`."""
    counts = clusters.get(key)
    if not counts or clusters.get("count", 1) < 2:
        return ""

    def paint(picture: Figure) -> None:
        axes = picture.add_subplot()
        edges = np.linspace(0, 1, len(counts) + 1)
        axes.bar(edges[:-1], counts, width=edges[1] - edges[0], align="edge", color=series_color(0), edgecolor=PAPER)
        axes.axvline(at, color=INK, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.set_xlim(start, 1)
        axes.set_xlabel(label)
        axes.set_ylabel("users")
        quiet(axes)

    return draw(name, title, 220, paint)


def _train_curve(training: Training, key: str, kind: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of `key` over all phases in a row, averaged to at most `MAX_POINTS` points."""
    kinds = (kind,) if kind else ("recommendation", "reasoning")
    starts = _starts(training)
    pairs = [
        (starts.get(record.get("phase", ""), 0) + record["step"], record[key])
        for record in training.records
        if record.get("kind") in kinds and record.get(key) is not None
    ]
    if not pairs:
        return np.zeros(0), np.zeros(0)
    steps, values = np.array(pairs, dtype=np.float64).T
    size = -(-len(steps) // MAX_POINTS)
    places = np.arange(0, len(steps), size)
    lengths = np.diff(np.r_[places, len(steps)])
    return np.add.reduceat(steps, places) / lengths, np.add.reduceat(values, places) / lengths


def _valid_curve(training: Training, key: str) -> tuple[np.ndarray, np.ndarray]:
    starts = _starts(training)
    pairs = [
        (starts.get(record.get("phase", ""), 0) + record["step"], record["valid"][key])
        for record in training.records
        if "valid" in record and record["valid"].get(key) is not None
    ]
    steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return steps, values


def _starts(training: Training) -> dict[str, int]:
    """The step at which each phase begins when the phases are laid end to end."""
    starts: dict[str, int] = {}
    last: dict[str, int] = {}
    for record in training.records:
        phase = record.get("phase", "")
        starts.setdefault(phase, sum(last.values()))
        last[phase] = max(last.get(phase, 0), record["step"])
    return starts


def _best(training: Training, steps: np.ndarray) -> int | None:
    """Place of the chosen checkpoint among the validations of the last phase."""
    best = training.facts.get("best_step")
    if best is None or not len(steps):
        return None
    at = np.flatnonzero(steps == max(_starts(training).values(), default=0) + best)
    return int(at[0]) if at.size else None


def _phases(axes: Axes, trainings: Sequence[Training]) -> None:
    """Mark where a later phase begins, with its name."""
    for phase, start in _starts(trainings[0]).items() if len(trainings) == 1 else ():
        if phase:
            place: Any = ("data", "axes fraction")
            axes.annotate(
                phase, (start, 1), (4, -3), place, "offset points", va="top", color=MUTED, fontsize=9.5, bbox=PLATE
            )
        if start:
            axes.axvline(start, color=RULE, linewidth=1)


def _finish(bottom: Axes, top: Axes, trainings: Sequence[Training]) -> None:
    bottom.set_xlabel("optimiser step")
    bottom.set_xlim(left=0)
    bottom.xaxis.set_major_locator(_locator(6, integer=True))
    if len(trainings) > 1:
        top.legend(loc="upper right", ncols=min(3, len(trainings)), borderaxespad=0)


def _locator(bins: int, integer: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(bins, integer=integer)
