"""Base LMs and trained adapters on disk: loaded without remote code, from safetensors only."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from thinkrec_core.errors import ModelError
from thinkrec_core.experts.stacked import Gates, stack_adapters
from thinkrec_core.recllm.allocator import keep_freed_memory
from thinkrec_core.recllm.answers import AnswerTokens
from thinkrec_core.recllm.model import RecLLM, ScoreOptions
from thinkrec_core.recllm.projector import Projector
from thinkrec_core.recllm.tokens import PieceTokenizer

ADAPTER, PROJECTOR, SETTINGS = "adapter", "projector.safetensors", "recllm.json"


def load_base(path: Path, dtype: torch.dtype) -> Any:
    """The causal LM in `path`, frozen, in eval mode.

    Raises:
        ModelError: the folder cannot be loaded as a causal LM.
    """
    keep_freed_memory()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, trust_remote_code=False, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"base model folder {path} cannot be loaded ({error})",
            "a causal LM with config.json and safetensors weights",
            "check llm.model",
        ) from None
    return model.requires_grad_(False).eval()


def load_tokenizer(path: Path) -> PieceTokenizer:
    """The tokenizer in `path`.

    Raises:
        ModelError: there is none, or it is not a fast one.
    """
    try:
        return PieceTokenizer(AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no tokenizer in {path} ({error})", "tokenizer.json beside the weights") from None


def save_trained(folder: Path, lm: PeftModel, projector: Projector, settings: dict[str, Any]) -> None:
    """Write adapter/ (plain PEFT), projector.safetensors and recllm.json to `folder`, then reopen and compare.

    Raises:
        ModelError: what was written differs from what is in memory (a sharded adapter can silently be saved empty).
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_adapter(folder / ADAPTER, lm)
    save_file({name: value.contiguous() for name, value in projector.state_dict().items()}, folder / PROJECTOR)
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")


def save_adapter(folder: Path, lm: PeftModel) -> None:
    """Write the adapter of `lm` as a plain PEFT folder, reopen it and compare.

    Raises:
        ModelError: what was written differs from what is in memory.
    """
    lm.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card names paths of this machine
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None  # a path would make equal adapters differ between machines
    config["target_modules"] = sorted(
        config["target_modules"]
    )  # PEFT keeps a set: its order changes from process to process
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    written = adapter_weights(folder)
    memory = {name.replace(".default", ""): value for name, value in lm.state_dict().items() if "lora_" in name}
    if written.keys() != memory.keys() or any(
        not torch.equal(written[name], memory[name].detach().cpu()) for name in memory
    ):
        raise ModelError(f"the adapter written to {folder} is not the trained one", next_step="report this as a bug")


def adapter_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a PEFT adapter folder.

    Raises:
        ModelError: the file is missing or truncated.
    """
    try:
        return load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"adapter {folder} cannot be read ({error})", "adapter_model.safetensors") from None


def adapter_scaling(folder: Path) -> float:
    """alpha / r of a PEFT adapter folder.

    Raises:
        ModelError: its configuration is missing or damaged.
    """
    config = _read_json(folder / "adapter_config.json")
    return float(config["lora_alpha"] / config["r"])


def load_projector(folder: Path, settings: dict[str, Any]) -> Projector:
    """The projector of a trained artifact.

    Raises:
        ModelError: the file is missing, truncated, or of other sizes than `settings` say.
    """
    projector = Projector(
        settings["slot_input_size"], settings["hidden_size"], settings["multiplier"], settings["n_tokens"]
    )
    try:
        projector.load_state_dict(load_file(folder / PROJECTOR))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"projector {folder / PROJECTOR} cannot be read ({error})", next_step="train anew") from None
    return projector


def read_settings(folder: Path) -> dict[str, Any]:
    """recllm.json of a trained artifact.

    Raises:
        ModelError: it is missing or damaged.
    """
    return _read_json(folder / SETTINGS)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error})", "JSON of a trained artifact", "train anew") from None


def shared_copy(causal: Any) -> Any:
    """`causal` with modules of its own that can be replaced, on the same weights."""
    kept = [*causal.parameters(), *causal.buffers()]
    return copy.deepcopy(causal, {id(tensor): tensor for tensor in kept})


def load_stacked(base: Path, general: Path, experts: list[Path], loaded: Any = None) -> tuple[RecLLM, Gates]:
    """The scoring model in fp32: the base LM with the general adapter and the experts stacked, and its gates.

    Column 0 of the gates is the general adapter, column n+1 is expert n; all zero is the untrained LM.

    Args:
        loaded: the base LM in fp32, if it is in memory already; it stays as it is, and its weights are shared.

    Raises:
        ModelError: a folder cannot be read, or an adapter is not one of this base.
    """
    settings = read_settings(general)
    causal = load_base(base, torch.float32) if loaded is None else shared_copy(loaded)
    states = [adapter_weights(folder / ADAPTER) for folder in (general, *experts)]
    gates = Gates(len(states))
    stack_adapters(causal, states, adapter_scaling(general / ADAPTER), gates)
    answers = AnswerTokens(**settings["answers"])
    options = ScoreOptions(**settings["score"])
    return RecLLM(causal, load_projector(general, settings), answers, options).eval(), gates
