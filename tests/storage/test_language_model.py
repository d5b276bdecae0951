"""Base LMs and adapters on disk: what is written is what PEFT reads; what cannot be read is told in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from storage import language_model as disk
from tests.tiny_model import one_thread, tiny_causal, write_tiny_model
from tests.tiny_recllm import tiny_recllm
from thinkrec_core.errors import ModelError
from thinkrec_core.recllm.adapters import add_lora
from thinkrec_core.recllm.examples import collate

__all__ = ["one_thread"]

IDS = torch.tensor([[0, 9, 33, 120, 7]])
TINY = tiny_recllm()
SETTINGS = {
    "answers": vars(TINY.model.answers),
    "score": vars(TINY.model.options),
    "slot_input_size": TINY.signals.size,
    "hidden_size": 32,
    "multiplier": 3,
    "n_tokens": 1,
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "base")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    disk.save_trained(folder, TINY.model.lm, TINY.model.projector, SETTINGS)  # type: ignore[arg-type]
    return folder


@torch.no_grad()
def test_the_base_is_loaded_frozen_in_eval_mode(base: Path) -> None:
    model = disk.load_base(base, torch.float32)
    assert torch.equal(model(IDS).logits, tiny_causal()(IDS).logits)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
def test_a_saved_adapter_is_a_plain_peft_folder(base: Path, trained: Path) -> None:
    model = PeftModel.from_pretrained(disk.load_base(base, torch.float32), trained / disk.ADAPTER).eval()
    assert torch.equal(model(IDS).logits, TINY.model.lm(IDS).logits)
    assert sorted(path.name for path in (trained / disk.ADAPTER).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_equal_adapters_are_equal_files_and_name_no_folder(trained: Path, tmp_path: Path) -> None:
    disk.save_trained(tmp_path / "again", TINY.model.lm, TINY.model.projector, SETTINGS)  # type: ignore[arg-type]
    for path in (path for path in trained.rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(trained)).read_bytes()
    config = json.loads((trained / disk.ADAPTER / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None


def test_the_order_of_the_target_modules_is_fixed(tmp_path: Path) -> None:
    # PEFT keeps them as a set of strings, whose order differs between processes.
    targets = ("v_proj", "up_proj", "q_proj", "o_proj", "k_proj", "gate_proj", "down_proj")
    disk.save_adapter(tmp_path / "adapter", add_lora(tiny_causal(), 2, 4, 0.0, targets, seed=0))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(targets)


@torch.no_grad()
def test_the_stacked_model_scores_as_the_trained_one(base: Path, trained: Path) -> None:
    model, gates = disk.load_stacked(base, trained, [trained])
    examples = [TINY.factory().make(row, "id") for row in range(5)]
    batch = collate(examples, TINY.pieces.pad_id, 1, with_answers=False)
    for weights in ([1.0, 0.0], [0.0, 1.0], [0.25, 0.75]):
        gates.set(torch.tensor([weights]).expand(5, -1))
        torch.testing.assert_close(model.score(batch), TINY.model.score(batch), atol=1e-5, rtol=1e-5)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BREAKS: dict[str, Callable[[Path, Path], object]] = {
    "adapter truncated": lambda base, trained: truncate(trained / "adapter" / "adapter_model.safetensors"),
    "adapter missing": lambda base, trained: (trained / "adapter" / "adapter_model.safetensors").unlink(),
    "adapter config missing": lambda base, trained: (trained / "adapter" / "adapter_config.json").unlink(),
    "projector truncated": lambda base, trained: truncate(trained / "projector.safetensors"),
    "settings truncated": lambda base, trained: truncate(trained / "recllm.json"),
    "another base": lambda base, trained: write_tiny_model(base, hidden=64),
    "fewer layers": lambda base, trained: write_tiny_model(base, layers=2),
    "base truncated": lambda base, trained: truncate(base / "model.safetensors"),
    "base without weights": lambda base, trained: (base / "model.safetensors").unlink(),
    "base without config": lambda base, trained: (base / "config.json").unlink(),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_what_cannot_be_read_is_told_in_one_line(base: Path, trained: Path, broken: str) -> None:
    BREAKS[broken](base, trained)
    with pytest.raises(ModelError) as caught:
        disk.load_stacked(base, trained, [trained])
    message = str(caught.value)
    assert "\n" not in message
    assert str(trained) in message or str(base) in message or "self_attn" in message


def test_a_folder_without_tokenizer_is_told_in_one_line(base: Path) -> None:
    (base / "tokenizer.json").unlink()
    (base / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=f"no tokenizer in {base}"):
        disk.load_tokenizer(base)


def test_an_adapter_that_was_not_written_as_it_is_in_memory_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "adapter_weights", lambda folder: {})
    with pytest.raises(ModelError, match="is not the trained one"):
        disk.save_adapter(tmp_path / "adapter", TINY.model.lm)  # type: ignore[arg-type]
