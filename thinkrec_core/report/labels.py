"""Names beside points of a picture, each on the side where it covers least of what already stands there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LETTER = 0.56
"""Width of a letter on average, in font sizes: the page's own font is not known here."""
SIDES = (
    *((5, 3, "left"), (5, -9, "left"), (-5, 3, "right"), (-5, -9, "right"), (0, 6, "center"), (0, -13, "center")),
    *((6, 9, "left"), (6, -15, "left"), (-6, 9, "right"), (-6, -15, "right")),
)
"""Offsets in points and alignment, best first."""
Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in points."""


@dataclass(frozen=True)
class Label:
    """A name for the point (x, y) of the data."""

    name: str
    x: float
    y: float
    size: float
    color: str
    alpha: float = 1.0


def name_points(picture: Figure, axes: Axes, labels: Sequence[Label]) -> None:
    """Write `labels` in their order, on the first side that is free, else on that with the least overlap; limits are final."""
    picture.draw_without_rendering()  # settles the layout, on which places in points depend
    scale = 72 / picture.dpi
    corners = axes.transAxes.transform([(0, 0), (1, 1)]) * scale
    frame: Box = (*corners[0], *corners[1])
    places = axes.transData.transform([(label.x, label.y) for label in labels]) * scale
    taken: list[Box] = [(x - 3, y - 3, x + 3, y + 3) for x, y in places]
    for label, (x, y) in zip(labels, places, strict=True):
        width = LETTER * label.size * len(label.name)
        boxes = []
        for right, up, side in SIDES:
            left = x + right - {"left": 0.0, "center": width / 2, "right": width}[side]
            boxes.append((left, y + up, left + width, y + up + label.size))
        costs = [sum(_overlap(box, other) for other in taken) + _outside(box, frame) for box in boxes]
        best = costs.index(min(costs))
        right, up, side = SIDES[best]
        taken.append(boxes[best])
        text = axes.annotate(label.name, (label.x, label.y), (right, up), textcoords="offset points", ha=side)
        text.set(fontsize=label.size, color=label.color, alpha=label.alpha)


def _overlap(one: Box, other: Box) -> float:
    return max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0.0, min(one[3], other[3]) - max(one[1], other[1])
    )


def _outside(box: Box, frame: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, frame)
