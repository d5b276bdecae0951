"""The DeepSpeed engine under a training phase: fp32 adapters over a frozen body, exact checkpoints.

The engine is built over fp32 parameters and the frozen body is cast afterwards, so that adapters, their gradients and the
optimiser stay in fp32 while the body computes in bf16. ZeRO-3 shards the body as well and needs one type for all: there
DeepSpeed's own bf16 mode keeps fp32 master copies.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from tasks.worker.build import is_trainable
from tasks.worker.checkpoints import GRADIENT_NORM, checkpoint_tag, last_checkpoint, point_to, readable
from tasks.worker.parameters import cast_frozen, parameter_groups
from thinkrec_core.config.training import EngineConfig
from thinkrec_core.recllm.attention import keep_attention_weights
from thinkrec_core.recllm.examples import Batch
from thinkrec_core.recllm.model import LossSums, RecLLM
from thinkrec_core.recllm.training import LoopState


class DeepSpeedEngine:
    """Forward, backward, optimiser and checkpoints of one phase.

    Args:
        model: fp32, with requires_grad set on what trains.
        config: ZeRO stage and world size.
        accumulation: micro-batches per step.
        micro_batch: examples per rank and micro-batch.
        weight_decay: on matrices only.
        body_dtype: type of the frozen body.
        device: of this rank.
    """

    def __init__(
        self,
        model: RecLLM,
        config: EngineConfig,
        accumulation: int,
        micro_batch: int,
        weight_decay: float,
        body_dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        import deepspeed

        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        # Without this DeepSpeed compiles a shared-memory backend; a killed build leaves a lock on which the next run hangs.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.rank, self.world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.accumulation, self.device, self.model = accumulation, device, model
        self._sharded = sharded = config.zero_stage == 3
        settings = {
            "train_micro_batch_size_per_gpu": micro_batch,
            "gradient_accumulation_steps": accumulation,
            "zero_optimization": {"stage": config.zero_stage},
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": sharded and body_dtype == torch.bfloat16},
            "steps_per_print": 10**9,
            "gradient_clipping": GRADIENT_NORM,
        }
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=model, optimizer=torch.optim.AdamW(parameter_groups(model, weight_decay), lr=0.0), config=settings
        )
        if not sharded and body_dtype != torch.float32:
            cast_frozen(model, body_dtype)
        keep_attention_weights(model.causal)

    def losses(self, batch: Batch) -> LossSums:
        """Forward."""
        return self._engine(batch)

    def backward(self, share: torch.Tensor) -> None:
        """Backward; undoes DeepSpeed's averaging over ranks and micro-batches, since shares add up."""
        self._engine.backward(share * (self.world_size * self.accumulation))
        # DeepSpeed counts micro-batches in step(); it applies the gradients only on the last one.
        if not self._engine.is_gradient_accumulation_boundary():
            self._engine.step()

    def step(self, learning_rates: Mapping[str, float]) -> None:
        """Apply the gradients of the global batch."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rates[group["name"]]
        self._engine.step()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over ranks."""
        if self.world_size > 1:
            values = values.to(self.device)
            torch.distributed.all_reduce(values)
        return values.cpu()

    def save(self, folder: Path, state: LoopState) -> None:
        """Checkpoint weights that train, optimiser and `state`; the pointer moves last, older checkpoints go."""
        tag = checkpoint_tag(state)
        self._engine.save_checkpoint(str(folder), tag=tag, save_latest=False, exclude_frozen_parameters=True)
        if self.rank == 0:
            point_to(folder, tag, state)
        if self.world_size > 1:
            torch.distributed.barrier()

    def resume(self, folder: Path) -> LoopState:
        """The state of the last complete checkpoint, with weights and optimiser restored; a fresh state if there is none.

        Raises:
            TrainingError: it is truncated, or that of another training.
        """
        found = last_checkpoint(folder)
        if found is None:
            return LoopState()
        tag, state = found
        with readable(folder / tag):
            loaded, _ = self._engine.load_checkpoint(str(folder), tag=tag, load_module_strict=False)
            if loaded is None:
                raise ValueError("its files are missing")
        return state

    def whole_weights(self) -> AbstractContextManager[Any]:
        """Inside, every rank holds adapter and projector whole; ZeRO-3 otherwise leaves empty tensors in their place."""
        from deepspeed.runtime.zero import GatheredParameters

        trained = [parameter for name, parameter in self.model.named_parameters() if is_trainable(name)]
        return GatheredParameters(trained, enabled=self._sharded)

    def close(self) -> None:
        """Free the engine before the next phase builds its own."""
        self._engine.destroy()
