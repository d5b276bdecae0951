"""The encoder of an earlier model, its users and items found again by their raw ids in new data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from safetensors.torch import load_file

from storage.schemas import BUNDLE_USERS, ITEMS, SAMPLES
from storage.tables import read_table
from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.warm import Trained


def read_start(start: Path, data: Path, config: EncoderConfig) -> tuple[Trained, int]:
    """The encoder of the artifact `start` for the users and items of the data artifact `data`, and its epochs so far.

    Raises:
        StoreError: a table is missing or damaged.
    """
    users: dict[str, int] = {}
    for split in ("train", "valid", "test"):
        users |= _numbers(read_table(data / f"samples_{split}.parquet", SAMPLES, ["user_id", "user_idx"]), "user")
    size = int(json.loads((data / "statistics.json").read_text(encoding="utf-8"))["users"])
    columns = ["item_id", "item_idx"]
    items = _numbers(read_table(data / "items.parquet", ITEMS, columns), "item")
    old_users = _numbers(read_table(start / "users.parquet", BUNDLE_USERS, ["user_id", "user_idx"]), "user")
    old_items = _numbers(read_table(start / "items.parquet", ITEMS, columns), "item")
    described = json.loads((start / "encoder" / "encoder.json").read_text(encoding="utf-8"))
    weights = load_file(start / "encoder" / "weights.safetensors")
    trained = Trained(weights, _places(users, size, old_users), _places(items, len(items), old_items))
    return trained, int(described.get("passes", config.epochs))


def _numbers(table: pa.Table, side: str) -> dict[str, int]:
    """Index by raw id."""
    return dict(zip(table.column(f"{side}_id").to_pylist(), table.column(f"{side}_idx").to_pylist(), strict=True))


def _places(new: dict[str, int], size: int, old: dict[str, int]) -> npt.NDArray[np.int64]:
    found = np.zeros(size + 1, np.int64)
    for raw, index in new.items():
        found[index] = old.get(raw, 0)
    return found
