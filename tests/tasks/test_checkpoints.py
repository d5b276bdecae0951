"""Checkpoints that are cut short or belong to another training are told in one line, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tasks.worker.checkpoints import LATEST
from tasks.worker.torch_engine import WEIGHTS, TorchEngine
from tests.tiny_recllm import tiny_recllm
from thinkrec_core.errors import TrainingError
from thinkrec_core.recllm.adapters import train_only
from thinkrec_core.recllm.training import LoopState


def engine(from_layer: int = 0) -> TorchEngine:
    model = tiny_recllm().model
    train_only(model.lm, lora=True, from_layer=from_layer)  # type: ignore[arg-type]
    return TorchEngine(model, 1, 0.0, torch.float32, torch.device("cpu"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BREAKS: dict[str, Callable[[Path], None]] = {
    "weights cut": lambda folder: cut(folder / "step-00000003" / WEIGHTS),
    "weights missing": lambda folder: (folder / "step-00000003" / WEIGHTS).unlink(),
    "pointer cut": lambda folder: cut(folder / LATEST),
    "pointer of something else": lambda folder: (folder / LATEST).write_text("{}"),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_damaged_checkpoint_is_told_in_one_line(tmp_path: Path, broken: str) -> None:
    engine().save(tmp_path, LoopState(step=3))
    assert engine().resume(tmp_path).step == 3
    BREAKS[broken](tmp_path)
    with pytest.raises(TrainingError, match=f"checkpoint {tmp_path}.* to begin this phase anew") as caught:
        engine().resume(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    engine(from_layer=1).save(tmp_path, LoopState(step=3))
    with pytest.raises(TrainingError, match="a whole checkpoint of this training"):
        engine().resume(tmp_path)
