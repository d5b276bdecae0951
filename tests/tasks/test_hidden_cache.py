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
    assert cache.hits == STEPS * BATCH - sum(path.is_symlink() for path in (tmp_path / "hidden").iterdir()) > 0
    assert max(plain) - min(plain) > 0.01


def test_a_full_disk_share_and_a_torn_file_change_nothing(tmp_path: Path) -> None:
    plain = curve(tiny_recllm(), None)
    tiny, cache = cached(tmp_path)
    curve(tiny, cache)
    size = sum(path.stat().st_size for path in files(tmp_path))
    limit = 0.6 * size / GIGABYTE
    tiny, small = cached(tmp_path / "small", limit)
    np.testing.assert_allclose(curve(tiny, small), plain, atol=1e-5)
    kept = files(tmp_path / "small")
    assert 0 < sum(path.stat().st_size for path in kept) < 0.62 * size
    kept[0].write_bytes(kept[0].read_bytes()[:50])
    tiny, again = cached(tmp_path / "small", limit)
    np.testing.assert_allclose(curve(tiny, again), plain, atol=1e-5)


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "hidden").iterdir() if not path.is_symlink()]


@pytest.mark.parametrize("cut", ["links", "file"])
def test_states_of_a_batch_are_there_together_or_not_at_all(tmp_path: Path, cut: str) -> None:
    tiny, cache = cached(tmp_path)
    rows = [tiny.factory().make(row, "id") for row in (3, 0, 5, 1)]
    assert len({len(example.prompt.ids) for example in rows}) > 1
    first = cache(rows, "recommendation", collate(rows, tiny.pieces.pad_id, 1))
    if cut == "links":  # the end came behind the file, before half of the links
        for name in ("recommendation-5", "recommendation-1"):
            (tmp_path / "hidden" / name).unlink()
    else:  # a power cut took what was not on the disk yet
        torn = files(tmp_path)[0]
        torn.write_bytes(torn.read_bytes()[:-9])
    again = HiddenCache(tmp_path / "hidden", tiny.model, DEPTH, tiny.pieces.pad_id, 1.0)
    assert torch.equal(again(rows, "recommendation", collate(rows, tiny.pieces.pad_id, 1)), first)
    assert again.hits == (4 if cut == "links" else 0)


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
