"""Which explanations are measured, and with what (spec: section 6 of the method)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from thinkrec_core.config.base import Frozen


class ExplanationsConfig(Frozen):
    """A seeded sample of held-out rows that teacher and student both explain."""

    split: Literal["valid", "test"] = "test"
    """Where the rows are from."""
    rows: int = Field(200, ge=1)
    """Rows that the teacher explains, knowing the answer; its accepted traces are the references."""
    embedding_model: str | None = None
    """Folder of a transformers encoder (safetensors, fast tokenizer) for embedding cosine and BERTScore; null leaves both out."""
    bertscore_layer: int | None = Field(None, ge=0)
    """Layer whose vectors BERTScore compares: 0 the token embeddings, null the last one. Published figures tune it per model."""
    shuffles: int = Field(5, ge=1)
    """Other rows whose references are the floor of a row."""
    bootstrap: int = Field(1000, ge=10)
    """User-cluster bootstrap resamples."""
