from __future__ import annotations

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from thinkrec_core.report.labels import Label, name_points
from thinkrec_core.report.svg import STYLE


def named(points: list[tuple[float, float]]) -> tuple[Figure, list[Annotation]]:
    import matplotlib

    with matplotlib.rc_context(STYLE):
        picture = Figure(figsize=(5, 4), layout="constrained")
        FigureCanvasAgg(picture)
        axes = picture.add_subplot()
        axes.plot([x for x, _ in points], [y for _, y in points], "o")
        axes.margins(x=0.16, y=0.1)
        name_points(picture, axes, [Label(f"Method {n}", x, y, 8, "#000000") for n, (x, y) in enumerate(points)])
    return picture, [text for text in axes.texts if isinstance(text, Annotation)]


def test_names_of_near_points_cover_neither_each_other_nor_the_frame() -> None:
    points = [(0.70, 0.68), (0.705, 0.681), (0.71, 0.679), (0.78, 0.66), (0.60, 0.60)]
    picture, texts = named(points)
    picture.draw_without_rendering()
    boxes = [text.get_tightbbox() for text in texts]
    assert len(boxes) == len(points)
    frame = picture.axes[0].get_window_extent()
    for box in boxes:
        assert box is not None
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2) if one and other)


def test_a_point_that_stands_alone_is_named_to_its_right() -> None:
    _, texts = named([(0.6, 0.6), (0.8, 0.7)])
    assert texts[0].xyann == (5, 3)
    assert texts[1].get_horizontalalignment() in ("left", "right")
