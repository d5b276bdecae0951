"""Figures of experts: variants against the general adapter, and the parts by cluster and route."""

from __future__ import annotations

import json

import numpy as np
import pytest

from thinkrec_core.evaluation.auc import auc, uauc
from thinkrec_core.evaluation.expert_figures import expert_figures

DRAW = np.random.default_rng(3)
ROWS = 400
USERS = DRAW.integers(1, 41, ROWS)
LABELS = DRAW.integers(0, 2, ROWS)
CLUSTERS = np.where(USERS < 5, -1, USERS % 2)
ROUTES = np.where(USERS < 5, "general", np.where(USERS < 20, "single", "fusion"))
GENERAL = LABELS + DRAW.normal(size=ROWS, scale=2)
# Routing helps cluster 1 and leaves the others as they are.
SCORES = {"general": GENERAL, "routed": np.where(CLUSTERS == 1, GENERAL + 2 * LABELS, GENERAL)}


def figures() -> dict:
    return expert_figures(USERS, LABELS, SCORES, CLUSTERS, ROUTES, 200, np.random.default_rng(1))


def test_variants_are_compared_with_the_general_adapter() -> None:
    found = figures()
    assert json.loads(json.dumps(found)) == found
    routed = found["variants"]["routed"]
    assert routed["auc"] == pytest.approx(auc(SCORES["routed"], LABELS))
    assert routed["versus_floor"]["auc"]["ci"][0] > 0
    assert found["variants"]["general"]["versus_floor"]["auc"]["difference"] == 0
    assert routed["changed"] == int(((CLUSTERS == 1) & (LABELS == 1)).sum())


def test_parts_are_the_figures_of_their_rows() -> None:
    found = figures()
    assert {name: part["rows"] for name, part in found["clusters"].items()} == {
        "none": int((CLUSTERS == -1).sum()),
        "0": int((CLUSTERS == 0).sum()),
        "1": int((CLUSTERS == 1).sum()),
    }
    assert set(found["routes"]) == {"general", "single", "fusion"}
    own = CLUSTERS == 1
    assert found["clusters"]["1"]["routed"] == {
        "auc": pytest.approx(auc(SCORES["routed"][own], LABELS[own])),
        "uauc": pytest.approx(uauc(USERS[own], SCORES["routed"][own], LABELS[own])),
    }
    assert found["clusters"]["0"]["routed"] == found["clusters"]["0"]["general"]
    assert found["clusters"]["none"]["users"] == len(set(USERS[USERS < 5]))
