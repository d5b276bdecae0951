"""A tiny recommendation world: 12 users, 20 items, histories with and without items; in memory and as artifacts on disk.

Ids appear out of order, the first row of each split has an empty history, and a label leans on user and item, so that a
training has something to learn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from storage.schemas import CLUSTERS, ENCODER_SCORES, ITEMS, REFLECTIONS, SAMPLES
from storage.tables import write_table
from thinkrec_core.recllm.prompt import ItemTexts
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.signals import EncoderTables

USERS, ITEM_COUNT, WIDTH = 12, 20, 4
GENRES = ("Comedy", "Drama", "Comedy, Drama", "")


@dataclass(frozen=True)
class World:
    """Samples by split, item texts and encoder tables."""

    samples: Mapping[str, Samples]
    texts: ItemTexts
    tables: EncoderTables


def tiny_world(seed: int = 0, train: int = 60, valid: int = 20) -> World:
    """The world drawn from `seed`."""
    draw = np.random.default_rng(seed)
    user_lean, item_lean = draw.normal(size=USERS + 1), draw.normal(size=ITEM_COUNT + 1)
    samples = {
        "train": _samples(draw, train, user_lean, item_lean),
        "valid": _samples(draw, valid, user_lean, item_lean),
    }
    titles = ["", *(f"Item {index} ({1980 + index})" for index in range(1, ITEM_COUNT + 1))]
    keywords = ["", *(GENRES[index % len(GENRES)] for index in range(1, ITEM_COUNT + 1))]
    tables = EncoderTables(
        user_vectors=draw.normal(size=(USERS + 1, WIDTH), scale=0.01).astype(np.float32),
        item_vectors=draw.normal(size=(ITEM_COUNT + 1, WIDTH), scale=0.01).astype(np.float32),
        user_bias=user_lean.astype(np.float32),
        item_bias=item_lean.astype(np.float32),
    )
    return World(samples, ItemTexts(titles, keywords), tables)


def _samples(draw: np.random.Generator, rows: int, user_lean: np.ndarray, item_lean: np.ndarray) -> Samples:
    user, item = draw.integers(1, USERS + 1, rows), draw.integers(1, ITEM_COUNT + 1, rows)
    logit = user_lean[user] + item_lean[item]
    lengths = draw.integers(0, 6, rows)
    lengths[0] = 0
    total = int(lengths.sum())
    return Samples(
        user_idx=user,
        item_idx=item,
        label=(draw.random(rows) < 1 / (1 + np.exp(-2 * logit))).astype(np.int64),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        history_items=draw.integers(1, ITEM_COUNT + 1, total),
        history_labels=draw.integers(0, 2, total),
        # Parquet keeps logits in fp32: the same number in memory as on disk.
        encoder_logit=(logit / 2).astype(np.float32).astype(np.float64),
    )


def write_world(folder: Path, world: World, reflections: int = 8) -> dict[str, Path]:
    """The folders `data`, `encoder`, `reflections` and `clusters` below `folder`, as the stages before a training write them."""
    paths = {name: folder / name for name in ("data", "encoder", "reflections", "clusters")}
    for path in paths.values():
        path.mkdir(parents=True)
    for split, samples in world.samples.items():
        write_table(paths["data"] / f"samples_{split}.parquet", _sample_columns(samples, split), SAMPLES)
        scores = {"row": np.arange(len(samples), dtype=np.int32), "logit": samples.encoder_logit.astype(np.float32)}
        write_table(paths["encoder"] / f"scores_{split}.parquet", scores, ENCODER_SCORES)
    index = list(range(1, ITEM_COUNT + 1))
    items = {
        "item_idx": index,
        "item_id": [str(i) for i in index],
        "title": list(world.texts.titles[1:]),
        "keywords": list(world.texts.keywords[1:]),
    }
    write_table(paths["data"] / "items.parquet", items, ITEMS)
    save_file(dict(vars(world.tables)), paths["encoder"] / "vectors.safetensors")
    write_table(paths["reflections"] / "reflections.parquet", _reflection_columns(world, reflections), REFLECTIONS)
    write_table(paths["clusters"] / "clusters.parquet", _cluster_columns(world), CLUSTERS)
    # Everybody is routed to the expert of the own cluster alone.
    cosines = np.where(np.arange(USERS + 1)[:, None] % 2 == np.arange(2), 1.0, -1.0)
    save_file({"centroids": np.zeros((2, WIDTH)), "cosines": cosines}, paths["clusters"] / "centroids.safetensors")
    (paths["clusters"] / "clusters.json").write_text(json.dumps({"trained": [True, True]}))
    return paths


def _sample_columns(samples: Samples, split: str) -> dict[str, object]:
    rows = range(len(samples))
    histories = [samples.history(row, len(samples.history_items)) for row in rows]
    return {
        "user_id": [str(u) for u in samples.user_idx],
        "item_id": [str(i) for i in samples.item_idx],
        "user_idx": samples.user_idx,
        "item_idx": samples.item_idx,
        "label": samples.label,
        "timestamp": list(rows),
        "split": [split] * len(samples),
        "not_cold": [True] * len(samples),
        "history_item_idx": [items for items, _ in histories],
        "history_label": [labels for _, labels in histories],
    }


def _reflection_columns(world: World, count: int) -> dict[str, object]:
    # Every second one is rejected and must not be trained on.
    rows = list(range(0, 4 * count, 2))
    accepted = [number % 2 == 0 for number in range(len(rows))]
    labels = [int(world.samples["train"].label[row]) for row in rows]
    return {
        "row": rows,
        "label": labels,
        "verdict": ["yes" if label else "no" for label in labels],
        "trace": [f"The user {'liked' if label else 'disliked'} such items before." for label in labels],
        "answer": ["Yes" if label else "No" for label in labels],
        "rounds": [1] * len(rows),
        "hint_ids": [[] for _ in rows],
        "prompt_tokens": [10] * len(rows),
        "completion_tokens": [10] * len(rows),
        "model": ["teacher"] * len(rows),
        "prompt_version": ["1"] * len(rows),
        "accepted": accepted,
        "reason": ["" if taken else "too short" for taken in accepted],
    }


def _cluster_columns(world: World) -> dict[str, object]:
    user = list(range(1, USERS + 1))
    count = np.bincount(world.samples["train"].user_idx, minlength=USERS + 1)
    return {
        "user_idx": user,
        "train_rows": count[1:],
        "cluster": [u % 2 for u in user],
    }
