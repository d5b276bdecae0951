"""LoRA on the LM: added fresh, trained in part, never resized, always a plain PEFT adapter (LoRA: arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from thinkrec_core.errors import ModelError


def add_lora(
    causal: Any, rank: int, alpha: float, dropout: float, target_modules: Sequence[str], seed: int
) -> PeftModel:
    """`causal` with fresh adapters: A uniform, B zero, so that the start is the untrained LM.

    Raises:
        ModelError: a target module does not exist in this architecture.
    """
    lora = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT divides by it; fractions are fine
        lora_dropout=dropout,
        target_modules=list(target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return get_peft_model(causal, lora)
    except ValueError as error:
        raise ModelError(
            f"llm.lora.target_modules {list(target_modules)} do not fit this model ({error})",
            next_step="name the model's attention projections",
        ) from None


def train_only(model: PeftModel, lora: bool, from_layer: int = 0) -> None:
    """Let gradients reach the LoRA weights of layers >= `from_layer` if `lora`, and nothing else of the LM."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(lora and "lora_" in name and layer_of(name) >= from_layer)


def layer_of(name: str) -> int:
    """Number of the transformer layer in a parameter name such as `model.layers.7.self_attn.q_proj.lora_A`; -1 if none."""
    parts = name.split(".")
    for before, part in pairwise(parts):
        if before in ("layers", "h", "blocks") and part.isdigit():
            return int(part)
    return -1


def lora_parameter_count(model: PeftModel) -> int:
    """Number of LoRA weights."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" in name)
