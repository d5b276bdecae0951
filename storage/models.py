"""Where a base LM lies and what its content digest is: the embedded model, a local folder, or a Hugging Face id."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.assets import RECORD, cache_folder, smollm2_folder
from storage.file_digests import joint_digest, remembered_digest
from thinkrec_core.errors import ModelError, one_line

EMBEDDED = "smollm2-135m"
"""The name of the hash-pinned model that `make setup` converts."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""One of these must be there: a fast tokenizer, a SentencePiece model, or the vocabulary of a byte-pair tokenizer."""
HUB_PATTERNS = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
"""What is taken from the hub: no pickled weights, no code."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-][\w.-]*")


@dataclass(frozen=True)
class ResolvedModel:
    """A base LM on this machine."""

    path: Path
    digest: str
    """sha256 over config, tokenizer and weight files by name and content; the same wherever the folder lies."""


def resolve_model(name: str) -> ResolvedModel:
    """The local folder of the model `name` and the digest of its content.

    Args:
        name: `smollm2-135m`, an existing folder, or a Hugging Face id, whose newest revision is downloaded to the hub's
            own cache (offline: the revision that is already there).

    Raises:
        AssetError: the embedded model is missing or damaged.
        ModelError: the folder has no readable config, no tokenizer or no safetensors weights, or asks for remote code;
            or the id is unknown or cannot be reached.
    """
    if name == EMBEDDED:
        folder = smollm2_folder()
        return ResolvedModel(folder, str(json.loads((folder / RECORD).read_text())["digest"]))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _from_hub(name)
    _check_config(folder)
    return ResolvedModel(folder.resolve(), _content_digest(folder, [*_weights(folder), *_texts(folder)]))


def _check_config(folder: Path) -> None:
    path = folder / "config.json"
    try:
        config: Any = json.loads(path.read_text())
    except OSError:
        raise ModelError(
            f"model folder {folder} has no config.json", "a Hugging Face model folder", "check llm.model"
        ) from None
    except ValueError as error:
        raise ModelError(
            f"{path} is not JSON ({error})", "the config of a causal LM", "download the model again"
        ) from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{path} names no model_type", "the config of a causal LM", "check llm.model")
    if config.get("auto_map"):
        code = next(iter(config["auto_map"].values())) if isinstance(config["auto_map"], dict) else config["auto_map"]
        raise ModelError(
            f"{path} asks for remote code (auto_map: {code})",
            "an architecture that transformers ships",
            "choose a model without custom code",
        )


def _weights(folder: Path) -> list[Path]:
    """The safetensors files of `folder`; all shards of its index are there."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        raise ModelError(
            f"model folder {folder} has only pickled weights ({pickled[0]})"
            if pickled
            else f"model folder {folder} has no weights",
            "*.safetensors",
            "convert them with save_pretrained" if pickled else "check llm.model",
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ModelError(
                f"{index} is not readable", "the index of the weight shards", "download the model again"
            ) from None
        missing = sorted(shards - {path.name for path in found})
        if missing:
            raise ModelError(
                f"model folder {folder} lacks {missing[0]}", f"{len(shards)} shards", "download the model again"
            )
    empty = [path for path in found if path.stat().st_size == 0]
    if empty:
        raise ModelError(f"{empty[0]} is empty", "weights", "download the model again")
    return found


def _texts(folder: Path) -> list[Path]:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"model folder {folder} has no tokenizer", " or ".join(TOKENIZER_FILES), "check llm.model")
    patterns = ("*.json", "*.model", "*.txt", "*.jinja")
    return [path for pattern in patterns for path in folder.glob(pattern) if path.name != RECORD]


def _content_digest(folder: Path, files: list[Path]) -> str:
    try:
        return joint_digest({path.name: remembered_digest(path, cache_folder()) for path in files})
    except OSError as error:
        raise ModelError(f"{error.filename} cannot be read ({error.strerror})", f"the files of {folder}") from None


def _from_hub(name: str) -> Path:
    if not HUB_ID.fullmatch(name):
        raise ModelError(
            f"model folder {name} does not exist",
            f"{EMBEDDED}, a folder, or a Hugging Face id such as organisation/name",
            "check llm.model",
        )
    # Imported late: the embedded model and local folders need no hub client.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = one_line(str(error).split("\n")[0], 160)
        raise ModelError(
            f"model {name} is neither a folder nor to be had from the Hugging Face hub ({reason})",
            f"{EMBEDDED}, a folder, or a Hugging Face id that can be reached",
            "check llm.model and the network",
        ) from None
