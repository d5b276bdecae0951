"""Many LoRA adapters in one forward, mixed per sample: W x + sum_n w_n (alpha/r) B_n A_n x.

The sum over experts is exact and per sample. It costs two small products whatever the gates are, because the A_n are stacked
to one (N r, in) matrix and the B_n to one (out, N r) matrix, with the gate weights between them:

    W x + (alpha/r) B_stack (gates * (A_stack x))

Where all adapters agree on a layer (experts repeat the general adapter below the last layers), the sum is (sum_n w_n) B A x
and one copy is kept.

Differs: the published code merges adapters per batch by its first user, with a merge ("linear") whose cross terms make
identical experts come out about twice too strong.

Shape suffixes: B samples, T positions, N adapters, R rank of the stack (N r), I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        self._weights: torch.Tensor | None = None
        self.cross_terms = False
        self._narrow: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._spread: dict[tuple[int, int, float, torch.dtype, torch.device], torch.Tensor] = {}

    def set(self, weights: torch.Tensor, cross_terms: bool = False) -> None:
        """Use `weights`, (B, N) or for every token of its own (B, T, N), from the next forward on.

        Args:
            cross_terms: [compat] merge as the published code does, (sum_n sqrt(w_n) B_n) (sum_n sqrt(w_n) A_n), PEFT's
                "linear" combination, in the place of the sum.

        Raises:
            ValueError: not one column per adapter.
        """
        self.check(weights)
        self._weights, self.cross_terms = weights, cross_terms
        self._spread.clear()

    def check(self, weights: torch.Tensor) -> None:
        """Refuse what `set` does not take.

        Raises:
            ValueError: not one column per adapter.
        """
        if weights.ndim not in (2, 3) or weights.shape[-1] != self.adapters:
            raise ValueError(f"gates of shape {tuple(weights.shape)}; expected (B, {self.adapters})")

    def see_through(self, narrow: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
        """Until told otherwise the layers see the tokens that `narrow` leaves of (B, T, .); None: all of them."""
        self._narrow = narrow
        self._spread.clear()

    def spread(self, copies: int, rank: int, scaling: float, like: torch.Tensor) -> torch.Tensor:
        """(B, 1 or T, copies * rank) scaling * w_n, repeated for each row of A_n; made once per batch, not once per layer.

        With `cross_terms` it is the square root of that, since A and B are weighted apart.

        Args:
            copies: N, or 1 for a layer on which all adapters agree; then the weights are summed.
            rank: r of one adapter.
            scaling: alpha / r.
            like: gives type and device.

        Raises:
            RuntimeError: no gates were set.
        """
        if self._weights is None:
            raise RuntimeError("gates must be set before the forward")
        key = (copies, rank, scaling, like.dtype, like.device)
        if key not in self._spread:
            weights_BTN = scaling * self._weights.to(like.device, like.dtype)
            if weights_BTN.ndim == 2:
                weights_BTN = weights_BTN[:, None]
            elif self._narrow is not None:
                weights_BTN = self._narrow(weights_BTN)
            if self.cross_terms:
                weights_BTN = weights_BTN.sqrt()
            if copies == 1:
                weights_BTN = weights_BTN.sum(dim=-1, keepdim=True)
            self._spread[key] = weights_BTN.repeat_interleave(rank, dim=-1)
        return self._spread[key]


class StackedLoRALinear(nn.Module):
    """A frozen linear layer with N stacked adapters, whose weights are parameters `a_stack_RI` and `b_stack_OR`.

    Args:
        base: the layer W, (out, in).
        a_NRI: the A_n, (N, r, in).
        b_NOR: the B_n, (N, out, r).
        scaling: alpha / r.
        gates: the shared gate weights.
    """

    def __init__(self, base: nn.Module, a_NRI: torch.Tensor, b_NOR: torch.Tensor, scaling: float, gates: Gates) -> None:
        super().__init__()
        self.copies, self.rank, size_in = a_NRI.shape
        self.base, self.scaling, self.gates = base, scaling, gates
        stacked_rank = self.copies * self.rank
        self.a_stack_RI = nn.Parameter(a_NRI.reshape(stacked_rank, size_in).clone(), requires_grad=False)
        # Clones: a view of the one kept copy would hold the memory of all N.
        b_OR = b_NOR.permute(1, 0, 2).reshape(-1, stacked_rank)
        self.b_stack_OR = nn.Parameter(b_OR.clone(memory_format=torch.contiguous_format), requires_grad=False)

    def forward(self, x_BTI: torch.Tensor) -> torch.Tensor:
        """(B, T, out)."""
        spread_BTR = self.gates.spread(self.copies, self.rank, self.scaling, self.a_stack_RI)
        out_BTO: torch.Tensor = self.base(x_BTI)
        low_BTR = nn.functional.linear(x_BTI.to(self.a_stack_RI.dtype), self.a_stack_RI) * spread_BTR
        if self.gates.cross_terms:
            low_BTR = low_BTR.unflatten(-1, (self.copies, self.rank)).sum(dim=-2).repeat(1, 1, self.copies) * spread_BTR
        if out_BTO.dtype != low_BTR.dtype:
            return out_BTO + nn.functional.linear(low_BTR, self.b_stack_OR).to(out_BTO.dtype)
        # In place: the output of the base layer is nobody else's, and a sum of its own would read and write (B, T, out) once more.
        flat = out_BTO.flatten(0, 1).addmm_(low_BTR.flatten(0, 1), self.b_stack_OR.t())
        return flat.view_as(out_BTO)

    def adapter(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A (r, in) and B (out, r) of adapter `number`, as they are now."""
        own = number if self.copies > 1 else 0
        part = slice(own * self.rank, (own + 1) * self.rank)
        return self.a_stack_RI[part].detach().clone(), self.b_stack_OR[:, part].detach().clone()


def stack_adapters(
    causal: Any, adapters: Sequence[AdapterWeights], scaling: float, gates: Gates, trainable: bool = False
) -> int:
    """Replace each adapted linear layer of `causal` by its stack; returns how many layers were replaced.

    Args:
        causal: the bare causal LM, changed in place.
        adapters: one PEFT state per column of the gates, same rank and target modules.
        scaling: alpha / r of the adapters.
        trainable: let gradients reach the adapters: a mixed batch then trains every expert on its share of every sample.
            Each adapter keeps a copy of its own on every layer. A stack has no LoRA dropout.

    Raises:
        ModelError: adapters without weights, of different modules or ranks, or of another base model.
    """
    if len(adapters) != gates.adapters:
        raise ModelError(f"{len(adapters)} adapters for {gates.adapters} gates")
    paths = common_modules(adapters)
    for path in paths:
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
        if not trainable and bool((a_NRI == a_NRI[:1]).all() and (b_NOR == b_NOR[:1]).all()):
            a_NRI, b_NOR = a_NRI[:1], b_NOR[:1]
        dtype = _dtype(base.weight.dtype, trainable)
        layer = StackedLoRALinear(base, a_NRI.to(dtype), b_NOR.to(dtype), scaling, gates)
        layer.a_stack_RI.requires_grad_(trainable)
        layer.b_stack_OR.requires_grad_(trainable)
        setattr(parent, leaf, layer)
    return len(paths)


def _dtype(base: torch.dtype, trainable: bool) -> torch.dtype:
    """The type in which adapters of a layer are computed: its own, but fp32 where they train or its weights are no floats."""
    if base == torch.float64 or (base in (torch.bfloat16, torch.float16) and not trainable):
        return base
    return torch.float32


def unstack_adapters(causal: Any) -> list[dict[str, torch.Tensor]]:
    """One PEFT state per column of the gates, out of a causal LM that `stack_adapters` changed: what a training ended with.

    The tensors are copies, in the type in which the stack holds them; the LM stays as it is. Without a stack: no states.
    """
    layers = {name: module for name, module in causal.named_modules() if isinstance(module, StackedLoRALinear)}
    count = next(iter(layers.values())).gates.adapters if layers else 0
    states: list[dict[str, torch.Tensor]] = [{} for _ in range(count)]
    for name, layer in layers.items():
        for number, state in enumerate(states):
            a_RI, b_OR = layer.adapter(number)
            state[f"base_model.model.{name}.lora_A.weight"] = a_RI
            state[f"base_model.model.{name}.lora_B.weight"] = b_OR
    return states


def common_modules(adapters: Sequence[AdapterWeights]) -> list[str]:
    """Module paths that all `adapters` change, in order.

    Raises:
        ModelError: adapters without weights, or of different modules or ranks.
    """
    modules = [sorted({name.rpartition(".lora_")[0] for name in state}) for state in adapters]
    if not modules[0]:
        raise ModelError("an adapter has no LoRA weights", "lora_A and lora_B of each layer", "train it anew")
    if any(names != modules[0] for names in modules):
        raise ModelError("adapters change different modules", "the same target_modules in all", "retrain the experts")
    ranks = [len(state[f"{modules[0][0]}.lora_A.weight"]) for state in adapters]
    if len(set(ranks)) > 1:
        raise ModelError(f"adapters of rank {ranks}", "one rank for all", "retrain the experts")
    return modules[0]
