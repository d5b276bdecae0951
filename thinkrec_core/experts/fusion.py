"""One user's fusion as a single LoRA adapter: exact, by concatenation.

    sum_n w_n (alpha/r) B_n A_n = (alpha/r) [w_1 B_1 ... w_N B_N] [A_1; ...; A_N]

which is one adapter of rank N r with the same scaling. PEFT calls this combination "cat"; its "linear" one adds cross terms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from thinkrec_core.errors import ModelError
from thinkrec_core.experts.stacked import AdapterWeights, common_modules


def fuse_adapters(adapters: Sequence[AdapterWeights], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """The PEFT state of sum_n w_n times adapter n; its rank is r times the number of weights that are not zero.

    With one weight of 1 it is that adapter, bit for bit. The scaling alpha / r must be that of the adapters.

    Raises:
        ModelError: no weight above zero, or adapters of different modules or ranks.
    """
    if len(adapters) != len(weights):
        raise ModelError(f"{len(adapters)} adapters for {len(weights)} weights")
    spoken = [(state, float(weight)) for state, weight in zip(adapters, weights, strict=True) if weight]
    if not spoken:
        raise ModelError("no adapter has a weight above zero", "gates that sum to one", "cluster the users anew")
    fused: dict[str, torch.Tensor] = {}
    for path in common_modules([state for state, _ in spoken]):
        fused[f"{path}.lora_A.weight"] = torch.cat([state[f"{path}.lora_A.weight"] for state, _ in spoken], dim=0)
        parts = [weight * state[f"{path}.lora_B.weight"] for state, weight in spoken]
        fused[f"{path}.lora_B.weight"] = torch.cat(parts, dim=1)
    return fused
