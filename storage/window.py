"""The valid window of a data artifact as a profile, which a bundle carries along to be compared with later windows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from storage.encoder_data import read_examples
from thinkrec_core.evaluation.drift import window_profile

WINDOW = "window.json"
"""Name of the profile in a bundle."""


def profile_of(data: Path) -> dict[str, Any]:
    """The profile of the valid rows of the data artifact in `data`.

    Raises:
        StoreError: a table is missing or damaged.
    """
    valid, train = (read_examples(data / f"samples_{split}.parquet") for split in ("valid", "train"))
    likes = np.concatenate([[0], np.cumsum(valid.history_labels)])
    return window_profile(
        valid.user_idx,
        valid.item_idx,
        valid.label,
        np.diff(valid.history_offsets),
        likes[valid.history_offsets[1:]] - likes[valid.history_offsets[:-1]],
        train.item_idx,
    )


def carried_profile(bundle: Path) -> dict[str, Any]:
    """The profile that the bundle in `bundle` carries; {} for one that was exported without."""
    path = bundle / WINDOW
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
