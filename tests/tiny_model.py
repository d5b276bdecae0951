"""A tiny random Llama and a byte-level tokenizer for it: real classes of transformers, small enough for a test.

The tokenizer is trained here, on the sentences below; the weights are drawn from a seed. The same arguments give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from thinkrec_core.recllm.tokens import PieceTokenizer

SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
"""Begin, end, and the marks of a chat turn."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# What the tests write, so that words such as " Yes" become one token and a prompt stays short.
CORPUS = (
    "A user has rated these items, oldest first: none so far.",
    "Answer Yes or No: will this user like this item?\nAnswer: Yes\nAnswer: No",
    "Yes. No. Yes No (liked) (disliked) (liked; Comedy) The user liked comedies and disliked dramas.",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread for every test of a folder whose conftest imports this.

    Products this small are done before a second thread has woken up; on a busy machine two threads are a hundred times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_tokenizer(begin: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 400 tokens at most with the special tokens SPECIAL and a chat template.

    Args:
        begin: put "<s>" in front of a text, as Llama-3's tokenizer does.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(CORPUS * 4, trainer)
    if begin:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", core.token_to_id("<s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(SPECIAL[2:]),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_pieces(begin: bool = True) -> PieceTokenizer:
    """`tiny_tokenizer` as prompts use it."""
    return PieceTokenizer(tiny_tokenizer(begin))


def tiny_causal(seed: int = 0, hidden: int = 32, layers: int = 4, vocabulary: int = 400) -> LlamaForCausalLM:
    """A Llama with random fp32 weights, in eval mode; its logits spread over a few units."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def write_tiny_model(folder: Path, seed: int = 0, hidden: int = 32, layers: int = 4) -> Path:
    """`folder`, with the model and its tokenizer as from_pretrained reads them (safetensors)."""
    tiny_causal(seed, hidden, layers).save_pretrained(folder, safe_serialization=True)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def randomise_lora(model: torch.nn.Module, seed: int, scale: float = 0.1) -> None:
    """Draw every LoRA weight of `model` anew: fresh adapters have B = 0 and would hide a wrong formula."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=draw))
