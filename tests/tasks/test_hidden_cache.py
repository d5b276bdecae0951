"""Hidden states kept on disk: the same loss curve as without them, whatever is missing, cut short or over the limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.worker.hidden_cache import GIGABYTE, HiddenCache
from tasks.worker.torch_engine import TorchEngine
from tests.tiny_recllm import Tiny, tiny_recllm
from thinkrec_core.recllm.adapters import train_only
from thinkrec_core.recllm.examples import BatchKind, Example, collate
from thinkrec_core.recllm.objective import ObjectiveWeights
from thinkrec_core.recllm.plan import BatchPlan
from thinkrec_core.recllm.schedule import Schedule
from thinkrec_core.recllm.training import Hooks, LoopState, Phase, run_phase

ROWS, STEPS, BATCH, DEPTH = 8, 12, 4, 2


def curve(tiny: Tiny, cache: HiddenCache | None, accumulation: int = 1) -> list[float]:
    """Losses of an expert's phase: three epochs, two kinds, dropout in the trained layers."""
    factory, losses = tiny.factory(), list[float]()
    tiny.model.projector.requires_grad_(False)
    train_only(tiny.model.lm, lora=True, from_layer=DEPTH)  # type: ignore[arg-type]
    engine = TorchEngine(tiny.model, accumulation, 0.0, torch.float32, torch.device("cpu"))
    tiny.model.train()
    for layer in tiny.model.causal.base_model.layers[:DEPTH]:
        layer.eval()

    def make(row: int, kind: BatchKind) -> Example:
        return factory.make(row, "id", f"Reason {row} of many." if kind == "reasoning" else None)

    plan = BatchPlan(3, "expert", range(ROWS), [1, 2, 5, 6], BATCH, STEPS, 0.3)
    phase = Phase(
        "expert", 3, plan, ObjectiveWeights(), {"lora": Schedule(1e-2, 1e-3, 0.0, 0)}, STEPS, STEPS, patience=9
    )
    hooks = Hooks(
        lambda record: losses.append(record["loss"]) if "loss" in record else None, lambda _: None, lambda _: None
    )
    run_phase(engine, phase, make, tiny.pieces.pad_id, 1, lambda: {"score": 0.0}, hooks, LoopState(), cache)
    return losses


def cached(tmp_path: Path, limit_gb: float = 1.0) -> tuple[Tiny, HiddenCache]:
    tiny = tiny_recllm()
    return tiny, HiddenCache(tmp_path / "hidden", tiny.model, DEPTH, tiny.pieces.pad_id, limit_gb)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_loss_curve_is_the_one_without_the_cache(tmp_path: Path, accumulation: int) -> None:
    plain = curve(tiny_recllm(), None, accumulation)
    tiny, cache = cached(tmp_path)
    np.testing.assert_allclose(curve(tiny, cache, accumulation), plain, atol=1e-5)
    # 8 rows for recommendation, 4 for reasoning: computed once, read ever after.
    assert cache.hits == STEPS * BATCH - len(list((tmp_path / "hidden").glob("*.safetensors")))
    assert max(plain) - min(plain) > 0.01


def test_a_full_disk_share_and_a_torn_file_change_nothing(tmp_path: Path) -> None:
    plain = curve(tiny_recllm(), None)
    tiny, cache = cached(tmp_path)
    curve(tiny, cache)
    sizes = sorted(path.stat().st_size for path in (tmp_path / "hidden").iterdir())
    limit = 3.5 * sizes[-1] / GIGABYTE
    tiny, small = cached(tmp_path / "small", limit)
    np.testing.assert_allclose(curve(tiny, small), plain, atol=1e-5)
    kept = list((tmp_path / "small" / "hidden").iterdir())
    assert 0 < len(kept) < len(sizes)
    kept[0].write_bytes(kept[0].read_bytes()[:50])
    tiny, again = cached(tmp_path / "small", limit)
    np.testing.assert_allclose(curve(tiny, again), plain, atol=1e-5)


def test_kept_states_are_those_of_the_whole_forward(tmp_path: Path) -> None:
    tiny, cache = cached(tmp_path)
    examples = [tiny.factory().make(row, "id") for row in range(6)]
    batch = collate(examples, tiny.pieces.pad_id, 1)
    first = cache(examples, "recommendation", batch)
    turned = examples[::-1]
    again = cache(turned, "recommendation", collate(turned, tiny.pieces.pad_id, 1))
    inside = batch.attention_mask_BT.bool()
    torch.testing.assert_close(first[inside], tiny.model.lower(batch, DEPTH)[inside], atol=1e-6, rtol=0)
    assert torch.equal(again.flip(0), first)
    assert cache.hits == 6
