"""A whole bundle of the tiny world: real files, a tiny random Llama, an MF encoder, one general adapter and two experts."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from storage.bundle import FORMAT, MANIFEST, VERSION, _files
from storage.bundle_tables import write_users
from storage.language_model import save_trained
from storage.models import resolve_model
from storage.prior_data import write_prior
from tests.tiny_model import randomise_lora, tiny_causal, tiny_pieces, write_tiny_model
from tests.tiny_world import ITEM_COUNT, USERS, WIDTH, tiny_world, write_world
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.encoders.examples import Sizes
from thinkrec_core.encoders.mf import MatrixFactorisation
from thinkrec_core.encoders.prior import Prior
from thinkrec_core.recllm.adapters import add_lora
from thinkrec_core.recllm.projector import Projector
from thinkrec_core.recllm.signals import SCALARS


def write_tiny_bundle(
    root: Path,
    name: str = "bundle",
    seed: int = 0,
    titles: dict[int, str] | None = None,
    prior: Prior | None = None,
) -> Path:
    """The bundle in `root`/`name`; others of the same `root` share its base model.

    Args:
        seed: of the adapters: other weights, other scores.
        titles: in the place of those of the world, by item_idx.
        prior: the stacker that the scores are added to.
    """
    model = root / "model"
    if not model.is_dir():
        write_tiny_model(model)
    world = tiny_world()
    for index, title in (titles or {}).items():
        world.texts.titles[index] = title  # type: ignore[index]
    inputs = write_world(root / f"{name}-inputs", world)
    for folder, file in (("data", "samples_{}.parquet"), ("encoder", "scores_{}.parquet")):
        (inputs[folder] / file.format("test")).write_bytes((inputs[folder] / file.format("valid")).read_bytes())
    values = {
        "llm": {"model": str(model), "lora": {"rank": 4, "alpha": 8}, "max_prompt_tokens": 512},
        "encoder": {"kind": "mf", "embedding_size": WIDTH},
        "evaluation": {"explanation_tokens": 12},
        "training": {"prior": "none" if prior is None else "stacker"},
    }
    config, path = ThinkRecConfig.model_validate(values), root / name
    (path / "encoder").mkdir(parents=True)
    encoder = MatrixFactorisation(Sizes(USERS, ITEM_COUNT), WIDTH, True, torch.Generator().manual_seed(1))
    save_tensors(encoder.state_dict(), path / "encoder" / "weights.safetensors")
    save_file(dict(vars(world.tables)), path / "encoder" / "vectors.safetensors")
    (path / "encoder" / "encoder.json").write_text("{}")
    if prior is not None:
        write_prior(path / "encoder", prior, {})
    for number, folder in enumerate(("general", "expert_0", "expert_1")):
        _adapter(path / folder, config, 10 * seed + number)
    (path / "clusters").mkdir()
    for file in ("clusters.parquet", "clusters.json", "centroids.safetensors"):
        (path / "clusters" / file).write_bytes((inputs["clusters"] / file).read_bytes())
    (path / "items.parquet").write_bytes((inputs["data"] / "items.parquet").read_bytes())
    write_users(inputs["data"], inputs["encoder"], config, path)
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "run": f"tiny-{name}-{seed}",
        "config": config.model_dump(mode="json"),
        "base": {"model": str(model), "digest": resolve_model(str(model)).digest},
        "experts": [0, 1],
        "metrics": {},
        "rows": 20,
        "files": _files(path),
    }
    (path / MANIFEST).write_text(json.dumps(facts))
    return path


def _adapter(folder: Path, config: ThinkRecConfig, seed: int) -> None:
    lora = config.llm.lora
    lm = add_lora(tiny_causal(), lora.rank, lora.alpha, lora.dropout, lora.target_modules, seed)
    randomise_lora(lm, seed)
    size, hidden = WIDTH + len(SCALARS), 32
    projector = Projector(size, hidden, 3, 1, 0.2, torch.Generator().manual_seed(5))
    pieces = tiny_pieces()
    settings = {
        "answers": {"yes_id": pieces.literal(" Yes")[0], "no_id": pieces.literal(" No")[0], "surface": " Yes"},
        "score": {"score": "yes", "scale": 1.0, "offset": 0.0},
        "slot_input_size": size,
        "hidden_size": hidden,
        "multiplier": 3,
        "n_tokens": 1,
    }
    save_trained(folder, lm, projector, settings)
