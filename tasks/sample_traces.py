"""A few traces of a teacher, as the pages show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.schemas import REFERENCES, REFLECTIONS
from storage.tables import read_table
from tasks.teacher.files import REFERENCE_FILE, REFLECTION_FILE

ACCEPTED, REJECTED = 3, 2
COLUMNS = ["row", "label", "verdict", "rounds", "accepted", "reason", "trace"]


def sample_traces(folder: Path) -> list[dict[str, Any]]:
    """The first accepted and the first rejected rows of the artifact in `folder`; none where it has no table.

    Keys: row, label, verdict, rounds, accepted, reason, trace; of reference traces split as well.
    """
    if (folder / REFLECTION_FILE).is_file():
        table = read_table(folder / REFLECTION_FILE, REFLECTIONS, COLUMNS)
    elif (folder / REFERENCE_FILE).is_file():
        table = read_table(folder / REFERENCE_FILE, REFERENCES, ["split", *COLUMNS])
    else:
        return []
    rows = sorted(table.to_pylist(), key=lambda row: int(row["row"]))
    accepted = [row for row in rows if row["accepted"]][:ACCEPTED]
    return accepted + [row for row in rows if not row["accepted"]][:REJECTED]
