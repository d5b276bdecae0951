"""Figures that papers report on the benchmark splits, each with the protocol it was measured under.

They are shown below a ladder and never mixed into it: other rows, histories and selections make other figures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

ML_1M, BOOKS, YELP = "ML-1M", "Amazon Books", "Yelp"
LIKED, LABELLED = "liked histories", "labelled histories"
OWN_ROWS = "rows filtered by its authors"
COLLM_ROWS, THINKREC_ROWS = "CoLLM's rows, liked", "ThinkRec's rows, labelled"
ML_1M_TEST_ROWS = 7331


@dataclass(frozen=True)
class Published:
    """One row of a paper's table."""

    data: str
    method: str
    auc: float
    uauc: float | None
    protocol: str


PUBLISHED = (
    Published(ML_1M, "ThinkRec (Llama-3-8B)", 0.7764, 0.6775, LABELLED),
    Published(ML_1M, "ARROW", 0.7577, 0.7146, LIKED),
    Published(ML_1M, "SeLLa-Rec", 0.7606, 0.7464, OWN_ROWS),
    Published(ML_1M, "SAILRec", 0.7571, None, LIKED),
    Published(ML_1M, "GraphLoRA", 0.7472, 0.7102, LIKED),
    Published(ML_1M, "BinLLM", 0.7425, 0.6956, LIKED),
    Published(ML_1M, "CoLLM-DIN (Vicuna-7B)", 0.7353, 0.6923, LIKED),
    Published(ML_1M, "CoLLM-MF (Vicuna-7B)", 0.7295, 0.6875, LIKED),
    Published(ML_1M, "CoLLM-SASRec (Vicuna-7B)", 0.7235, 0.6990, LIKED),
    Published(ML_1M, "TALLRec", 0.7097, 0.6818, LIKED),
    Published(ML_1M, "DIN", 0.7166, 0.6459, LIKED),
    Published(ML_1M, "SASRec", 0.7078, 0.6884, LIKED),
    Published(ML_1M, "MF", 0.6482, 0.6361, LIKED),
    Published(ML_1M, "LightGCN", 0.5959, 0.6499, LIKED),
    Published(ML_1M, "ICL", 0.5320, 0.5268, LIKED),
    Published(BOOKS, "ThinkRec", 0.8302, 0.5705, THINKREC_ROWS),
    Published(BOOKS, "CoLLM, run by ThinkRec", 0.7830, 0.5672, THINKREC_ROWS),
    Published(BOOKS, "MF", 0.6592, 0.5527, THINKREC_ROWS),
    Published(BOOKS, "SASRec", 0.5411, 0.5197, THINKREC_ROWS),
    Published(BOOKS, "DIN", 0.8163, 0.6145, COLLM_ROWS),
    Published(BOOKS, "CoLLM-DIN", 0.8245, 0.6474, COLLM_ROWS),
    Published(BOOKS, "CoLLM-MF", 0.8109, 0.6225, COLLM_ROWS),
    Published(BOOKS, "TALLRec", 0.7375, 0.5983, COLLM_ROWS),
    Published(YELP, "ThinkRec", 0.6955, 0.6065, THINKREC_ROWS),
    Published(YELP, "CoLLM", 0.6373, 0.5961, THINKREC_ROWS),
    Published(YELP, "SASRec", 0.6184, 0.6096, THINKREC_ROWS),
    Published(YELP, "MF", 0.5838, 0.5389, THINKREC_ROWS),
)


def published_rows() -> list[dict[str, Any]]:
    """All published figures as JSON-able rows: data, method, auc, uauc, protocol."""
    return [asdict(row) for row in PUBLISHED]
