"""The adapter of one user on disk: what the experts of a run say to this user, as a plain PEFT folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file

from storage.language_model import ADAPTER, PROJECTOR, SETTINGS, adapter_scaling, adapter_weights
from thinkrec_core.experts.fusion import fuse_adapters


def save_fused(folder: Path, adapters: list[Path], weights: list[float]) -> int:
    """Write sum_n w_n times adapter n as a trained artifact: adapter/ (plain PEFT), projector.safetensors, recllm.json.

    Args:
        folder: a new folder.
        adapters: artifacts of one run in the order of `weights`; the first one gives projector and settings, which all share.

    Returns:
        The rank of what was written.

    Raises:
        ModelError: an artifact cannot be read, or adapters do not fit each other.
    """
    first = adapters[0]
    state = fuse_adapters([adapter_weights(each / ADAPTER) for each in adapters], weights)
    rank = next(len(value) for name, value in state.items() if name.endswith("lora_A.weight"))
    scaling = adapter_scaling(first / ADAPTER)
    config = json.loads((first / ADAPTER / "adapter_config.json").read_text()) | {
        "r": rank,
        "lora_alpha": rank * scaling,
    }
    (folder / ADAPTER).mkdir(parents=True)
    save_file(state, folder / ADAPTER / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / ADAPTER / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    for name in (PROJECTOR, SETTINGS):
        shutil.copyfile(first / name, folder / name)
    return rank
