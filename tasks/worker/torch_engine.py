"""The plain torch engine: one process, no DeepSpeed, the same steps. For machines where DeepSpeed is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from tasks.worker.checkpoints import GRADIENT_NORM, checkpoint_tag, last_checkpoint, point_to, readable
from tasks.worker.parameters import cast_frozen, parameter_groups
from thinkrec_core.recllm.attention import keep_attention_weights
from thinkrec_core.recllm.examples import Batch
from thinkrec_core.recllm.model import LossSums, RecLLM
from thinkrec_core.recllm.training import LoopState

WEIGHTS = "trained.pt"


class TorchEngine:
    """Forward, backward, AdamW and checkpoints of one phase in one process.

    Args:
        model: fp32, with requires_grad set on what trains.
        accumulation: micro-batches per step.
        weight_decay: on matrices only.
        body_dtype: type of the frozen body; adapters, projector and optimiser stay in fp32.
        device: where it runs; the model is moved there.
    """

    rank, world_size = 0, 1

    def __init__(
        self, model: RecLLM, accumulation: int, weight_decay: float, body_dtype: torch.dtype, device: torch.device
    ) -> None:
        self.model, self.accumulation, self.device = model.to(device), accumulation, device
        self._optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=0.0)
        self._trained = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        cast_frozen(model, body_dtype)
        keep_attention_weights(model.causal)

    def losses(self, batch: Batch) -> LossSums:
        """Forward."""
        sums: LossSums = self.model(batch)
        return sums

    def backward(self, share: torch.Tensor) -> None:
        """Add the gradient of this micro-batch's share of the loss."""
        share.backward()

    def step(self, learning_rates: Mapping[str, float]) -> None:
        """Clip, apply the gradients, forget them."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rates[group["name"]]
        torch.nn.utils.clip_grad_norm_(self._trained, GRADIENT_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """`values`: there are no other ranks."""
        return values

    def save(self, folder: Path, state: LoopState) -> None:
        """Checkpoint what trains, the optimiser and `state`."""
        target = folder / checkpoint_tag(state)
        target.mkdir(exist_ok=True)
        weights = [parameter.detach() for parameter in self._trained]
        torch.save({"weights": weights, "optimizer": self._optimizer.state_dict()}, target / WEIGHTS)
        point_to(folder, target.name, state)

    def resume(self, folder: Path) -> LoopState:
        """The state of the last complete checkpoint, with weights and optimiser restored; a fresh state if there is none.

        Raises:
            TrainingError: it is truncated, or that of another training.
        """
        found = last_checkpoint(folder)
        if found is None:
            return LoopState()
        tag, state = found
        with readable(folder / tag), torch.no_grad():
            saved = torch.load(folder / tag / WEIGHTS, weights_only=True, map_location=self.device)
            for parameter, value in zip(self._trained, saved["weights"], strict=True):
                if parameter.shape != value.shape:
                    raise ValueError(f"a weight of shape {tuple(value.shape)} for one of {tuple(parameter.shape)}")
                parameter.copy_(value)
            self._optimizer.load_state_dict(saved["optimizer"])
        return state

    def whole_weights(self) -> AbstractContextManager[None]:
        """Nothing is sharded here."""
        return nullcontext()

    def close(self) -> None:
        """Free the optimiser's memory before the next phase builds its own."""
        self._optimizer.state.clear()
