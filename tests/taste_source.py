"""A small source of interactions with a planted taste, as a folder in canonical columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_taste_source(folder: Path, users: int, items: int) -> Path:
    """`folder`: every user rates every item once; even users like even items with chance .9 and odd ones with .1, odd users
    the other way round."""
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(5)
    rows = ["user_id,item_id,label,timestamp"]
    for user in range(users):
        for time, item in enumerate(draw.permutation(items)):
            liked = draw.random() < (0.9 if user % 2 == item % 2 else 0.1)
            rows.append(f"u{user},i{item},{int(liked)},{1000 * user + time}")
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n")
    titles = [f"i{item},Title {item} (19{60 + item})" for item in range(items)]
    (folder / "items.csv").write_text("item_id,title\n" + "\n".join(titles) + "\n")
    return folder
