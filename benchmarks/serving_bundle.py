"""A bundle with as many experts as a benchmark wants: those of a trained one are replaced by random ones of the same shape."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from storage.bundle import MANIFEST
from storage.file_digests import file_digest
from storage.schemas import CLUSTERS
from storage.tables import read_table, write_table


def with_experts(source: Path, out: Path, count: int) -> Path:
    """`source` copied to the new folder `out` with `count` experts; user u is routed to expert (u - 1) % count alone."""
    shutil.copytree(source, out)
    facts = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    for folder in out.glob("expert_*"):
        shutil.rmtree(folder)
    draw = torch.Generator().manual_seed(7)
    for number in range(count):
        adapter = out / f"expert_{number}" / "adapter" / "adapter_model.safetensors"
        shutil.copytree(out / "general", adapter.parents[1])
        weights = {k: v + 0.01 * torch.randn(v.shape, generator=draw) for k, v in load_file(adapter).items()}
        save_file(weights, adapter)
    table = out / "clusters" / "clusters.parquet"
    columns = read_table(table, CLUSTERS).to_pydict()
    users = len(columns["user_idx"])
    columns["cluster"] = [user % count for user in range(users)]
    write_table(table, columns, CLUSTERS)
    cosines = np.where(np.arange(-1, users)[:, None] % count == np.arange(count), 1.0, -1.0)  # (U+1, N), padding first
    centroids = table.with_name("centroids.safetensors")
    save_arrays({**load_arrays(centroids), "cosines": cosines}, centroids)
    summary = json.loads(table.with_name("clusters.json").read_text(encoding="utf-8"))
    summary |= {"count": count, "trained": [True] * count}
    table.with_name("clusters.json").write_text(json.dumps(summary), encoding="utf-8")
    facts["config"]["experts"]["router"]["mode"] = "hard"
    facts["experts"] = list(range(count))
    files = sorted(each for each in out.rglob("*") if each.is_file() and each.name != MANIFEST)
    facts["files"] = {str(each.relative_to(out)): file_digest(each) for each in files}
    (out / MANIFEST).write_text(json.dumps(facts), encoding="utf-8")
    return out
