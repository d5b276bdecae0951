"""Any CSV, TSV, Parquet or JSON lines table given a mapping of columns.

`source` is one file, whose items then need a title column in it, or a folder with interactions.* and items.*. The mapping
names user, item, rating or label, timestamp, and optionally split, title, genres, keywords, description; what it does not
name is looked for under the canonical name.
"""

from __future__ import annotations

from pathlib import Path

from storage.readers import canonical
from storage.readers.layout import GENRES, Layout
from storage.readers.raw import DESCRIPTION, ITEM, KEYWORDS, LABEL, RATING, SPLIT, TIMESTAMP, TITLE, USER
from thinkrec_core.errors import DataError

WORDS = {
    "user": USER, "item": ITEM, "rating": RATING, "label": LABEL, "timestamp": TIMESTAMP, "split": SPLIT, "title": TITLE,
    "genres": GENRES, "keywords": KEYWORDS, "description": DESCRIPTION,
}  # fmt: skip


def layout(source: Path, columns: dict[str, str] | None = None) -> Layout:
    """The file or files of `source` under the mapping `columns`.

    Raises:
        DataError: an unknown word in the mapping, or a missing file.
    """
    unknown = sorted(set(columns or {}) - set(WORDS) - set(WORDS.values()))
    if unknown:
        raise DataError(f"--columns names {', '.join(unknown)}", ", ".join(WORDS), "such as user=uid,item=iid")
    given = {WORDS.get(word, word): name for word, name in (columns or {}).items()}
    names = {name: (given[name],) if name in given else (name,) for name in WORDS.values()}
    rows = {name: names[name] for name in canonical.INTERACTION_NAMES}
    texts = {name: names[name] for name in canonical.ITEM_NAMES}
    if source.is_dir():
        found = canonical.layout(source)
        return Layout(canonical.part(found.interactions.path, rows), canonical.part(found.items.path, texts))
    if not source.is_file():
        raise DataError(f"{source} is neither a file nor a folder", "a CSV, TSV, Parquet or JSON lines table")
    return Layout(canonical.part(source, rows), canonical.part(source, texts), lenient_items=True)
