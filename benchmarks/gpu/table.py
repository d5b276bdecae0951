"""The table of docs/results.md from the aggregates of the GPU study: `python -m benchmarks.gpu.table [RESULTS...]`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

HERE = Path(__file__).resolve().parent
COLUMNS = (
    "Protocol",
    "Rung",
    "Prior",
    "Seeds",
    "AUC [95%]",
    "UAUC [95%]",
    "AUC - floor",
    "UAUC - floor",
    "AUC of the LLM alone",
    "LLM/prior deviation",
)
HEADER = "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|"


def table(results: list[dict[str, Any]]) -> str:
    """One row per (protocol, rung, prior), means over seeds; intervals are those of the first seed. The floors come first.

    The floor of a row is its prior: the stacker's logit where that was added, else the encoder's.
    """
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for result in sorted(
        results, key=lambda r: (r["run"]["protocol"], r["run"]["rung"], r["run"]["prior"], r["run"]["seed"])
    ):
        run = result["run"]
        groups[run["protocol"], run["rung"], run["prior"]].append(result)
    lines = [HEADER]
    for protocol in sorted({protocol for protocol, _, _ in groups}):
        own = {(rung, prior): group for (whose, rung, prior), group in groups.items() if whose == protocol}
        above_encoder = next((group[:1] for (_, prior), group in own.items() if prior != "stacker"), None)
        above_stacker = next((group[:1] for (_, prior), group in own.items() if prior == "stacker"), None)
        lines.append(_line(protocol, "bias (floor)", "", above_encoder or above_stacker or [], "bias", None))
        if above_encoder:
            lines.append(_line(protocol, "encoder (floor)", "", above_encoder, "encoder", None))
        if above_stacker:
            lines.append(_line(protocol, "stacker (floor)", "", above_stacker, "floor", None))
            lines.append(_line(protocol, "net on the soft tokens' inputs", "", above_stacker, "net", None))
            lines.append(_line(protocol, "that net", "stacker", above_stacker, "floor_and_net", None))
        for (rung, prior), group in own.items():
            lines.append(_line(protocol, rung, prior, group, "model", fmean(r["llm_std_ratio"] for r in group)))
    return "\n".join(lines)


def _line(protocol: str, rung: str, prior: str, group: list[dict[str, Any]], key: str, ratio: float | None) -> str:
    first = group[0]["rungs"][key]
    cells = [protocol, rung, prior, str(len(group))]
    for figure in ("auc", "uauc"):
        mean = fmean(result["rungs"][key][figure] for result in group)
        low, high = first[f"{figure}_ci"]
        cells.append(f"{mean:.4f} [{low:.3f}, {high:.3f}]")
    for figure in ("auc", "uauc"):
        versus = first["versus_floor"][figure]
        cells.append(
            ""
            if key in ("encoder", "floor")
            else f"{versus['difference']:+.4f} [{versus['ci'][0]:+.4f}, {versus['ci'][1]:+.4f}]"
        )
    cells.append("" if ratio is None else f"{fmean(result['rungs']['llm']['auc'] for result in group):.4f}")
    cells.append("" if ratio is None else f"{ratio:.2f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table of the files named, by default those of results/."""
    paths = [Path(name) for name in sys.argv[1:]] or sorted((HERE / "results").glob("*.json"))
    if not paths:
        sys.exit(f"no results below {HERE / 'results'}; run python -m benchmarks.gpu.run first")
    print(table([json.loads(path.read_text()) for path in paths]))


if __name__ == "__main__":
    main()
