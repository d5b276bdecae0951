"""Many LoRA adapters in one forward, mixed per sample: W x + sum_n w_n (alpha/r) B_n A_n x.

The sum over experts is exact and per sample. It costs two small products whatever the gates are, because the A_n are stacked
to one (N r, in) matrix and the B_n to one (out, N r) matrix, with the gate weights between them:

    W x + (alpha/r) B_stack (gates * (A_stack x))

Differs: the published code merges adapters per batch by its first user, with a merge ("linear") whose cross terms make
identical experts come out about twice too strong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from thinkrec_core.errors import ModelError

AdapterWeights = Mapping[str, torch.Tensor]
"""Tensors of one PEFT LoRA folder, by the names PEFT gives them."""


class Gates:
    """The gate weights of the current batch, shared by all stacked layers. All zero is the untrained LM."""

    def __init__(self, adapters: int) -> None:
        self.adapters = adapters
        self.weights_BN: torch.Tensor | None = None

    def set(self, weights_BN: torch.Tensor) -> None:
        """Use `weights_BN` (B, N) from the next forward on.

        Raises:
            ValueError: not one column per adapter.
        """
        if weights_BN.ndim != 2 or weights_BN.shape[1] != self.adapters:
            raise ValueError(f"gates of shape {tuple(weights_BN.shape)}; expected (B, {self.adapters})")
        self.weights_BN = weights_BN


class StackedLoRALinear(nn.Module):
    """A frozen linear layer with N stacked adapters.

    Args:
        base: the layer W, (out, in).
        a_NRI: the A_n, (N, r, in).
        b_NOR: the B_n, (N, out, r).
        scaling: alpha / r.
        gates: the shared gate weights.
    """

    def __init__(self, base: nn.Module, a_NRI: torch.Tensor, b_NOR: torch.Tensor, scaling: float, gates: Gates) -> None:
        super().__init__()
        self.a_stack: torch.Tensor
        self.b_stack: torch.Tensor
        adapters, rank, size_in = a_NRI.shape
        self.base, self.scaling, self.gates, self.rank = base, scaling, gates, rank
        self.register_buffer("a_stack", a_NRI.reshape(adapters * rank, size_in).contiguous())
        self.register_buffer("b_stack", b_NOR.permute(1, 0, 2).reshape(-1, adapters * rank).contiguous())

    def forward(self, x_BTI: torch.Tensor) -> torch.Tensor:
        """(B, T, out)."""
        if self.gates.weights_BN is None:
            raise RuntimeError("gates must be set before the forward")
        weights_BN = self.gates.weights_BN.to(x_BTI.device, self.a_stack.dtype)
        out: torch.Tensor = self.base(x_BTI)
        spread = (self.scaling * weights_BN).repeat_interleave(self.rank, dim=1)[:, None, :]
        low_BTR = nn.functional.linear(x_BTI.to(self.a_stack.dtype), self.a_stack) * spread
        return out + nn.functional.linear(low_BTR, self.b_stack).to(out.dtype)


def stack_adapters(causal: Any, adapters: Sequence[AdapterWeights], scaling: float, gates: Gates) -> int:
    """Replace each adapted linear layer of `causal` by its stack; returns how many layers were replaced.

    Args:
        causal: the bare causal LM, changed in place.
        adapters: one PEFT state per column of the gates, same rank and target modules.
        scaling: alpha / r of the adapters.

    Raises:
        ModelError: adapters without weights, of different modules or ranks, or of another base model.
    """
    if len(adapters) != gates.adapters:
        raise ModelError(f"{len(adapters)} adapters for {gates.adapters} gates")
    modules = [sorted({name.rpartition(".lora_")[0] for name in state}) for state in adapters]
    if not modules[0]:
        raise ModelError("an adapter has no LoRA weights", "lora_A and lora_B of each layer", "train it anew")
    if any(names != modules[0] for names in modules):
        raise ModelError("adapters change different modules", "the same target_modules in all", "retrain the experts")
    ranks = [len(state[f"{modules[0][0]}.lora_A.weight"]) for state in adapters]
    if len(set(ranks)) > 1:
        raise ModelError(f"adapters of rank {ranks}", "one rank for all", "retrain the experts")
    for path in modules[0]:
        inner = path.removeprefix("base_model.model.")
        parent_path, _, leaf = inner.rpartition(".")
        try:
            parent = causal.get_submodule(parent_path)
            base = getattr(parent, leaf)
        except AttributeError:
            raise ModelError(f"adapter module {inner} is not in the base model", "an adapter of this base") from None
        a_NRI = torch.stack([state[f"{path}.lora_A.weight"] for state in adapters])
        b_NOR = torch.stack([state[f"{path}.lora_B.weight"] for state in adapters])
        if a_NRI.shape[2] != base.in_features or b_NOR.shape[1] != base.out_features:
            raise ModelError(
                f"adapter module {inner} is {b_NOR.shape[1]} x {a_NRI.shape[2]}",
                f"{base.out_features} x {base.in_features} as in the base model",
            )
        dtype = base.weight.dtype if base.weight.dtype == torch.float64 else torch.float32
        setattr(parent, leaf, StackedLoRALinear(base, a_NRI.to(dtype), b_NOR.to(dtype), scaling, gates))
    return len(modules[0])
