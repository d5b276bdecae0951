"""Base models by name: content digests, and one line for each way in which a folder cannot be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from storage.models import resolve_model
from thinkrec_core.errors import ModelError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINKREC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_the_digest_follows_the_content_and_not_the_place(folder: Path, tmp_path: Path) -> None:
    found = resolve_model(str(folder))
    assert found.path == folder
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "README.md").write_text("not a part of the model")
    assert resolve_model(str(copy)).digest == found.digest
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before + b" ")
        assert resolve_model(str(copy)).digest != found.digest
        (copy / name).write_bytes(before)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=f"{folder} has no weights"):
        resolve_model(str(folder))


def test_a_folder_with_pickled_weights_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model.bin\)"):
        resolve_model(str(folder))


def test_empty_weights_and_a_missing_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lacks model-2.safetensors"):
        resolve_model(str(folder))
    (folder / "model-2.safetensors").touch()
    with pytest.raises(ModelError, match=r"model-2.safetensors is empty"):
        resolve_model(str(folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "names no model_type"),
        ("{}", "names no model_type"),
        ('{"model_type": "x", "auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}', r"remote code.*modeling_x\.X"),
    ],
)
def test_configs_that_are_refused(folder: Path, config: str, message: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match=message):
        resolve_model(str(folder))


def test_missing_config_and_missing_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        resolve_model(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        resolve_model(str(folder))


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "a b"])
def test_a_path_that_is_no_folder_is_not_asked_for_at_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise AssertionError("asked the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=f"model folder {name} does not exist"):
        resolve_model(name)


def test_an_id_is_taken_from_the_hub_without_pickles_and_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.update(name=name, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_model("organisation/name").path == folder
    assert asked["name"] == "organisation/name"
    assert not any(pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in asked["patterns"])  # type: ignore[attr-defined]


def test_an_id_that_cannot_be_reached_gives_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("cannot find the files\nand a long explanation")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelError, match="model nobody/nothing is neither") as caught:
        resolve_model("nobody/nothing")
    assert "long explanation" not in str(caught.value)
