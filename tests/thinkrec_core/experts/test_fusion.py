"""A fusion as one adapter: exact against the stack, plain PEFT on disk, one weight is the adapter itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file

from storage.fused_adapter import save_fused
from storage.language_model import adapter_weights, save_adapter
from tests.tiny_model import randomise_lora, tiny_causal
from thinkrec_core.errors import ModelError
from thinkrec_core.experts.fusion import fuse_adapters
from thinkrec_core.experts.stacked import AdapterWeights, Gates, stack_adapters
from thinkrec_core.recllm.adapters import add_lora

RANK, ALPHA = 4, 8
IDS = torch.randint(4, 400, (3, 9), generator=torch.Generator().manual_seed(7))
SHARES = [0.0, 0.25, 0.75]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three trained-looking artifacts: general and two experts."""
    folders = [tmp_path_factory.mktemp("adapters") / str(seed) for seed in range(3)]
    for seed, folder in enumerate(folders):
        lm = add_lora(tiny_causal(), RANK, ALPHA, 0.05, ("q_proj", "v_proj"), seed)
        randomise_lora(lm, seed, scale=0.3)
        save_adapter(folder / "adapter", lm)
        (folder / "projector.safetensors").write_bytes(b"projector")
        (folder / "recllm.json").write_text("{}")
    return folders


@torch.no_grad()
def stacked(states: list[AdapterWeights], weights: list[float], dtype: torch.dtype) -> torch.Tensor:
    causal, gates = tiny_causal().to(dtype), Gates(len(states))
    stack_adapters(causal, states, ALPHA / RANK, gates)
    gates.set(torch.tensor([weights], dtype=dtype).expand(len(IDS), -1))
    return causal(IDS).logits


@torch.no_grad()
def by_peft(folder: Path, dtype: torch.dtype) -> torch.Tensor:
    causal = tiny_causal().to(dtype)
    return PeftModel.from_pretrained(causal, str(folder), autocast_adapter_dtype=False).to(dtype).eval()(IDS).logits


def test_the_exported_adapter_scores_as_the_stack_does(artifacts: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "user"
    assert save_fused(out, artifacts, SHARES) == 2 * RANK  # the general adapter has no share
    states = [adapter_weights(folder / "adapter") for folder in artifacts]
    expected = stacked(states, SHARES, torch.float32)
    torch.testing.assert_close(by_peft(out / "adapter", torch.float32), expected, atol=1e-4, rtol=1e-4)
    assert float((expected - stacked(states, [0, 0.5, 0.5], torch.float32)).abs().max()) > 1e-2
    assert sorted(path.name for path in out.iterdir()) == ["adapter", "projector.safetensors", "recllm.json"]


def test_in_double_precision_it_is_exact(artifacts: list[Path], tmp_path: Path) -> None:
    states = [{k: v.double() for k, v in adapter_weights(folder / "adapter").items()} for folder in artifacts]
    config = json.loads((artifacts[0] / "adapter" / "adapter_config.json").read_text())
    config |= {"r": 3 * RANK, "lora_alpha": 3 * ALPHA}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    weights = [0.2, 0.3, 0.5]
    save_file(fuse_adapters(states, weights), tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    expected = stacked(states, weights, torch.float64)
    torch.testing.assert_close(by_peft(tmp_path, torch.float64), expected, atol=1e-9, rtol=1e-9)


def test_one_weight_is_that_adapter_bit_for_bit(artifacts: list[Path], tmp_path: Path) -> None:
    assert save_fused(tmp_path / "one", artifacts, [0.0, 1.0, 0.0]) == RANK
    written, expert = (adapter_weights(folder / "adapter") for folder in (tmp_path / "one", artifacts[1]))
    assert written.keys() == expert.keys()
    assert all(torch.equal(written[name], expert[name]) for name in expert)


def test_mistakes_are_one_line(artifacts: list[Path]) -> None:
    states = [adapter_weights(folder / "adapter") for folder in artifacts]
    with pytest.raises(ModelError, match="3 adapters for 1 weights"):
        fuse_adapters(states, [1.0])
    with pytest.raises(ModelError, match="no adapter has a weight"):
        fuse_adapters(states, [0.0, 0.0, 0.0])
