"""Text to token ids, piece by piece, so that no title can forge a special token, a placeholder or a neighbour's token.

Literal prompt text is tokenised as the model's own markup; titles, keywords and traces are user text: tokenised apart with
special tokens split into ordinary ones, control characters removed, and cut to a bound.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

from thinkrec_core.errors import ModelError

TITLE_TOKENS = 48
KEYWORD_TOKENS = 32
_SENTINEL = "\u241fPROMPT\u241f"


class PieceTokenizer:
    """Token ids of prompt pieces under one `tokenizer` of transformers (any fast tokenizer)."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.eos_id: int = _required(tokenizer.eos_token_id, "eos_token")
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos_id
        plain, marked = self.literal("x"), list(tokenizer("x").input_ids)
        # What the tokenizer puts in front of a text by itself, such as Llama-3's begin-of-text.
        self.prefix: tuple[int, ...] = tuple(marked[: marked.index(plain[0])]) if plain[0] in marked else ()

    def literal(self, text: str) -> list[int]:
        """Ids of trusted prompt text; special tokens in it are special."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids) if text else []

    @lru_cache(maxsize=200_000)  # noqa: B019 - one tokenizer lives as long as its process
    def user_text(self, text: str, limit: int, lead: str = "") -> tuple[int, ...]:
        """At most `limit` ids of untrusted text after `lead`; special tokens in it are ordinary characters."""
        # Few tokens are longer than 16 characters: bounds the work on a title of megabytes.
        clean = cleaned(text[: 16 * limit])
        clean = lead + clean if clean else ""
        ids = self.tokenizer(clean, add_special_tokens=False, split_special_tokens=True).input_ids if clean else []
        return tuple(ids[:limit])

    def chat_frame(self) -> tuple[str, str]:
        """Markup before and after a user turn, up to where the assistant's answer begins.

        Raises:
            ModelError: the tokenizer has no chat template.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise ModelError("the tokenizer has no chat template", next_step="set llm.chat_template=false")
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": _SENTINEL}], tokenize=False, add_generation_prompt=True
        )
        before, _, after = text.partition(_SENTINEL)
        return before, after


def cleaned(text: str) -> str:
    """`text` on one line without control characters or double quotes that would end the quoting around it."""
    spaced = " ".join(text.split())
    visible = "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cs"))
    return visible.replace('"', "'")


def _required(value: int | None, name: str) -> int:
    if value is None:
        raise ModelError(f"the tokenizer has no {name}", "one that ends an answer", "use a causal LM's own tokenizer")
    return int(value)
