"""The tables of a report as rows of ready text, so that the template only places them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thinkrec_core.report.words import figure, interval, is_llm, p_text, rung_name, signed

OTHER_FIGURES = (
    ("ndcg@5", "NDCG@5"),
    ("map@5", "MAP@5"),
    ("log_loss", "Log-loss"),
    ("accuracy", "Accuracy"),
    ("ece", "Calibration error"),
)
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Cell:
    """One figure with what stands small below it."""

    value: str
    below: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    name: str
    cells: Sequence[Cell]
    is_llm: bool = False


def ladder_rows(evaluation: Mapping[str, Any]) -> list[Row]:
    """One row per rung: AUC and UAUC with intervals, each followed by the paired difference to the floor."""

    def cells(rung: Mapping[str, Any], floor: bool) -> list[Cell]:
        found = []
        for key in ("auc", "uauc"):
            versus = rung["versus_floor"][key]
            parts = [interval(versus["ci"], with_sign=True), p_text(versus["p"])]
            found.append(Cell(figure(rung[key]), interval(rung.get(f"{key}_ci"))))
            found.append(Cell("floor") if floor else Cell(signed(versus["difference"]), ", ".join(filter(None, parts))))
        return found

    return _rows(evaluation, cells)


def other_rows(evaluation: Mapping[str, Any]) -> list[Row]:
    """One row per rung: the figures of `OTHER_FIGURES`, with intervals where there are any."""

    def cells(rung: Mapping[str, Any], floor: bool) -> list[Cell]:
        bounds = [(key, rung.get(f"{key}_ci")) for key, _ in OTHER_FIGURES]
        return [Cell(figure(rung.get(key)), interval(ci) if ci else "") for key, ci in bounds]

    return _rows(evaluation, cells)


def warm_cold_rows(evaluation: Mapping[str, Any]) -> list[Row]:
    """One row per rung: AUC and UAUC on warm and on cold rows."""

    def cells(rung: Mapping[str, Any], floor: bool) -> list[Cell]:
        return [Cell(figure(rung[part][key])) for part in ("warm", "cold") for key in ("auc", "uauc")]

    return _rows(evaluation, cells)


def cluster_rows(clusters: Mapping[str, Any]) -> list[Row]:
    """One row per cluster: users, train rows, whether it has an expert of its own."""
    columns = zip(clusters["sizes"], clusters["train_rows"], clusters["trained"], strict=True)
    return [
        Row(str(index), [Cell(text(users)), Cell(text(rows)), Cell("yes" if trained else "no, general adapter")])
        for index, (users, rows, trained) in enumerate(columns)
    ]


def gate_shares(gates: Sequence[float]) -> list[tuple[str, str]]:
    """(adapter, percent) of the adapters that speak; nothing where it is the general one alone."""
    names = ["general", *[f"expert {index}" for index in range(len(gates) - 1)]]
    spoken = [(name, f"{gate:.0%}") for name, gate in zip(names, gates, strict=True) if gate > 0]
    return spoken if len(spoken) > 1 or (spoken and spoken[0][0] != "general") else []


def split_rows(statistics: Mapping[str, Any]) -> list[Row]:
    """Statistics given per split as a table: {"rows": {"train": 1, ...}} or {"train": {"rows": 1}, ...}."""
    by_split = {name: values for name, values in statistics.items() if name in SPLITS and isinstance(values, Mapping)}
    table: dict[str, dict[str, Any]] = {}
    for split, values in by_split.items():
        for name, value in values.items():
            table.setdefault(name, {})[split] = value
    for name, values in statistics.items():
        if isinstance(values, Mapping) and name not in SPLITS:
            if set(values) & set(SPLITS):
                table.setdefault(name, {}).update({split: values.get(split) for split in SPLITS})
            else:
                inner = split_rows(values)
                table |= {f"{name} {row.name}": dict(zip(SPLITS, row.cells, strict=True)) for row in inner}
    return [
        Row(label(name), [_cell(values.get(split)) for split in SPLITS])
        for name, values in table.items()
        if not any(isinstance(value, (Mapping, list)) for value in values.values())
    ]


def facts(values: Mapping[str, Any], skip: Sequence[str] = (), prefix: str = "") -> list[tuple[str, str]]:
    """Scalars of nested `values` as (words, text), at most three levels deep; what is given per split is left out."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        words = f"{prefix}{name}"
        if name in skip or name in SPLITS:
            continue
        if isinstance(value, Mapping):
            if not set(value) & set(SPLITS) and prefix.count(": ") < 2:
                found += facts(value, skip, f"{words}: ")
        elif isinstance(value, (list, tuple)):
            if len(value) <= 8 and not any(isinstance(item, (Mapping, list, tuple)) for item in value):
                found.append((label(words), ", ".join(text(item) for item in value) or "none"))
        else:
            found.append((label(words), text(value)))
    return found


def label(name: str) -> str:
    """A key as words: "positive_rate" gives "Positive rate", "auc" gives "AUC"."""
    words = " ".join("UAUC" if word == "uauc" else "AUC" if word == "auc" else word for word in name.split("_"))
    return words[:1].upper() + words[1:]


def text(value: Any) -> str:
    """A scalar for people: thousands separated, floats to four digits, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _rows(evaluation: Mapping[str, Any], cells: Callable[[Mapping[str, Any], bool], list[Cell]]) -> list[Row]:
    return [
        Row(rung_name(name), cells(rung, name == evaluation["floor"]), is_llm(name))
        for name, rung in evaluation["rungs"].items()
    ]


def _cell(value: Any) -> Cell:
    return value if isinstance(value, Cell) else Cell(text(value))
