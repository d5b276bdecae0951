"""A bundle with as many experts as a benchmark wants: those of a trained one are replaced by random ones of the same shape."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
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
    columns["route"] = ["single"] * users
    columns["gates"] = [[0.0, *(float(user % count == expert) for expert in range(count))] for user in range(users)]
    write_table(table, columns, CLUSTERS)
    facts["experts"] = list(range(count))
    files = sorted(each for each in out.rglob("*") if each.is_file() and each.name != MANIFEST)
    facts["files"] = {str(each.relative_to(out)): file_digest(each) for each in files}
    (out / MANIFEST).write_text(json.dumps(facts), encoding="utf-8")
    return out
