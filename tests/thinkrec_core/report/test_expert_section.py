"""The experts of a run in its report: map, sizes, routes, gates, figures by part, variants of the routing, how N was found."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.data_statistics import statistics
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.evaluation.expert_figures import expert_figures
from thinkrec_core.evaluation.ladder import evaluate_ladder
from thinkrec_core.report.expert_tables import VARIANT_NAMES
from thinkrec_core.report.render import render_report
from thinkrec_core.report.values import ReportValues

DRAW = np.random.default_rng(5)
USERS = DRAW.integers(1, 31, 300)
LABELS = DRAW.integers(0, 2, 300)
CLUSTERS = np.where(USERS < 4, -1, USERS % 2)
ROUTES = np.where(USERS < 4, "general", np.where(USERS < 16, "single", "fusion"))
SCORES = {name: DRAW.normal(LABELS, 1.5) for name in VARIANT_NAMES}


def figures(prior: str) -> dict[str, Any]:
    found = expert_figures(USERS, LABELS, SCORES, CLUSTERS, ROUTES, 50, np.random.default_rng(1))
    return found | {"prior": prior}


def section(prior: str = "encoder") -> str:
    """The section as text, pictures as their titles."""
    points = {axis: DRAW.normal(size=27).tolist() for axis in "xy"}
    by_count = {
        str(count): {"auc": 0.6 + count / 100, "auc_ci": [0.5, 0.7], "uauc": 0.61, "uauc_ci": [0.5, 0.7], "score": 0.62}
        for count in (1, 2)
    }
    page = render_report(
        ReportValues(
            config=ThinkRecConfig().model_dump(mode="json"),
            evaluation=evaluate_ladder(USERS, LABELS, LABELS > 2, {"bias": SCORES["general"]}, "bias", 20, DRAW),
            data=statistics(),
            clusters={
                "count": 2,
                "sizes": [14, 13],
                "train_rows": [1140, 13],
                "trained": [True, False],
                "silhouette": 0.321,
                "silhouettes": {"2": 0.321, "3": 0.234},
                "users_without_train_rows": 3,
                "routes": {"general": 3, "single": 12, "fusion": 15},
                "top_weight_histogram": [0] * 10 + [3] * 9 + [0],
                "entropy_histogram": [1] * 20,
                "map": {**points, "cluster": [0] * 14 + [1] * 13, "tsne": points},
            },
            choice={"rows": 50, "users": 20, "select_by": "auc", "count": 2, "by_count": by_count},
            expert_figures=figures(prior),
        )
    )
    found = page[page.index("User clusters and routing") :]
    found = found[: found.index("<h2")]
    found = re.sub(r'<svg[^>]*aria-label="([^"]*)".*?</svg>', r"[\1]", found, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found))


@pytest.fixture(scope="module")
def told() -> str:
    return section()


def test_where_users_lie_and_how_they_are_routed(told: str) -> None:
    assert told.count("[27 users by cluster]") == 2  # principal components and t-SNE
    assert "[Histogram of the largest gate weight" in told
    assert "[Histogram of the entropy of the gate weights" in told
    assert "general: 3 users, 10.0% single: 12 users, 40.0% fusion: 15 users, 50.0%" in told
    assert "0 14 1,140 yes 1 13 13 no" in told
    assert (
        "Silhouette 0.321. 3 users without train rows: general adapter. By number of clusters: 2: 0.321, 3: 0.234."
        in told
    )
    assert "2 0.620 0.500 to 0.700 0.610 0.500 to 0.700 0.6200 chosen" in told


def test_every_variant_of_the_routing_stands_beside_the_general_adapter(told: str) -> None:
    found = figures("encoder")["variants"]
    for name, title in VARIANT_NAMES.items():
        low, high = found[name]["auc_ci"]
        assert f"{title} {found[name]['auc']:.3f} {low:.3f} to {high:.3f}" in told
    assert "fused as published" in VARIANT_NAMES["merged"]


def test_auc_and_uauc_by_cluster_and_by_route(told: str) -> None:
    found = figures("encoder")
    parts = {**found["clusters"], **found["routes"]}
    assert list(parts) == ["0", "1", "none", "fusion", "general", "single"]
    for name, part in parts.items():
        shown = [part[variant][key] for key in ("auc", "uauc") for variant in ("general", "routed")]
        row = " ".join([str(part["users"]), str(part["rows"]), *(f"{value:.3f}" for value in shown)])
        assert f"{'no train rows' if name == 'none' else name} {row}" in told


@pytest.mark.parametrize(("prior", "said"), [("encoder", "the CF encoder"), ("stacker", "the stacker"), ("none", None)])
def test_what_the_scores_were_added_to_is_said(prior: str, said: str | None) -> None:
    assert ("All scores include the logit of" in section(prior)) == (said is not None)
    assert said is None or f"All scores include the logit of {said}." in section(prior)
