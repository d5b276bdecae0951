"""What the teacher is asked about: wrong train predictions, or a sample of rows whose traces serve as references."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from storage.rec_data import load_item_texts
from storage.schemas import SAMPLES, WRONG
from storage.tables import read_table
from thinkrec_core.errors import DataError
from thinkrec_core.reflection.prompts import Case
from thinkrec_core.seeds import generator

HeldOut = Literal["valid", "test"]
"""Splits whose rows may have reference traces."""


@dataclass(frozen=True)
class Cases:
    """Rows of one split, as the teacher sees them.

    Attributes:
        split: "train" for wrong predictions, else the split of the reference traces.
        rows: row numbers in samples_{split}, ascending.
        cases: one per row; they name no user.
    """

    split: Literal["train"] | HeldOut
    rows: list[int]
    cases: list[Case]

    def hints(self, seed: int, index: int) -> np.random.Generator:
        """The generator that orders the hints of case `index`."""
        row = self.rows[index]
        return generator(seed, "hints", row) if self.split == "train" else generator(seed, "hints", self.split, row)


def wrong_cases(wrong: Path) -> Cases:
    """The wrong predictions in the artifact folder `wrong`."""
    table = read_table(wrong / "wrong.parquet", WRONG).to_pylist()
    cases = [_case(row["label"], row["title"], row["keywords"], row["history_titles"], row) for row in table]
    return Cases("train", [row["row"] for row in table], cases)


def reference_cases(data: Path, split: HeldOut, rows: int, max_history: int, seed: int) -> Cases:
    """A seeded sample of `rows` rows of `split`, or all where there are fewer.

    Under one seed a larger sample holds every row of a smaller one, so that enlarging it pays for the new rows alone.

    Args:
        data: folder of the data artifact.
        max_history: newest history items that the teacher sees, as many as the student.
    """
    table = read_table(data / f"samples_{split}.parquet", SAMPLES)
    if not table.num_rows:
        raise DataError(f"split {split} has no rows", "rows to write reference traces about", "choose another split")
    order = generator(seed, "reference_rows", split).permutation(table.num_rows)
    chosen = np.sort(order[:rows])
    texts = load_item_texts(data)
    cases = []
    for row in table.take(chosen).to_pylist():
        item = row["item_idx"]
        history = [texts.titles[past] for past in row["history_item_idx"][-max_history:]]
        last = {"history_label": row["history_label"][-max_history:]}
        cases.append(_case(row["label"], texts.titles[item], texts.keywords[item], history, last))
    return Cases(split, chosen.tolist(), cases)


def _case(label: int, title: str, keywords: str, history: list[str], row: dict[str, Any]) -> Case:
    return Case(label, title, keywords, tuple(zip(history, row["history_label"], strict=True)))
