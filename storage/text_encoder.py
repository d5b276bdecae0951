"""Text encoders on disk, for metrics of texts: local folders, safetensors only, without remote code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from storage.models import ResolvedModel, resolve_model
from thinkrec_core.errors import ModelError

if TYPE_CHECKING:
    from thinkrec_core.evaluation.text.embedding import TextEncoder

FIELD = "check explanations.embedding_model"


def resolve_text_encoder(name: str) -> ResolvedModel:
    """The encoder in the folder `name` and the digest of its content; nothing is fetched.

    Raises:
        ModelError: no folder, or one without config, tokenizer or safetensors weights, or that asks for remote code.
    """
    if not Path(name).expanduser().is_dir():
        raise ModelError(f"text encoder {name} is no folder", "a local folder of a transformers encoder", FIELD)
    try:
        return resolve_model(name)
    except ModelError as error:
        raise ModelError(error.found, error.expected, FIELD) from None


def load_text_encoder(folder: Path, layer: int | None) -> TextEncoder:
    """The encoder in `folder` in fp32.

    Args:
        layer: whose vectors BERTScore compares; None for the last.

    Raises:
        ModelError: the folder cannot be loaded as an encoder, or has no such layer.
    """
    # torch and transformers: only where an encoder is asked for
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    from thinkrec_core.evaluation.text.embedding import TextEncoder

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    common = {"trust_remote_code": False, "local_files_only": True}
    try:
        model = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **common)
        tokenizer = AutoTokenizer.from_pretrained(folder, **common)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"text encoder {folder} cannot be loaded ({error})", "an encoder of transformers", FIELD
        ) from None
    layers = int(model.config.num_hidden_layers)
    if layer is not None and layer > layers:
        raise ModelError(
            f"layer {layer} of a text encoder with {layers}", next_step="lower explanations.bertscore_layer"
        )
    return TextEncoder(model, tokenizer, layer)
