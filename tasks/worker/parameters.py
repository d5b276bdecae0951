"""Which weights an engine trains, in which groups, and in which type the frozen ones compute."""

from __future__ import annotations

from typing import Any

import torch

from thinkrec_core.recllm.model import RecLLM


def parameter_groups(model: RecLLM, weight_decay: float) -> list[dict[str, Any]]:
    """Groups "lora" and "projector", each with decay on matrices and none on vectors; empty groups are left out."""
    groups: dict[tuple[str, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = "projector" if name.startswith("projector.") else "lora"
            groups.setdefault((group, parameter.ndim > 1), []).append(parameter)
    return [
        {"name": name, "params": parameters, "weight_decay": weight_decay if matrices else 0.0}
        for (name, matrices), parameters in sorted(groups.items())
    ]


def cast_frozen(model: RecLLM, dtype: torch.dtype) -> None:
    """Cast the LM's own frozen weights to `dtype` in place; adapters and projector keep theirs."""
    for name, parameter in model.lm.named_parameters():
        if not parameter.requires_grad and "lora_" not in name:
            parameter.data = parameter.data.to(dtype)
