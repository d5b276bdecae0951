"""What can be known to fail before any work is done."""

from __future__ import annotations

from pathlib import Path

from storage.models import resolve_model
from storage.store import ArtifactStore
from storage.text_encoder import resolve_text_encoder
from thinkrec_core.config.reflections import LOCAL
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ConfigError


def preflight(config: ThinkRecConfig, root: Path) -> ArtifactStore:
    """The store at `root`, ready to be written, after cheap checks of what a run needs later.

    Raises:
        StoreError: the store cannot be written.
        AssetError: the embedded model is missing or damaged.
        ModelError: a named model is no folder with safetensors weights and cannot be had from the hub.
        ConfigError: fields that fit their models but cannot lead to the end of a run.
    """
    store = ArtifactStore(root)
    check_reflections(config)
    resolve_model(config.llm.model)
    if config.teacher.base_url == LOCAL and config.teacher.model != config.llm.model:
        resolve_model(config.teacher.model)
    return store


def preflight_explanations(config: ThinkRecConfig, root: Path) -> ArtifactStore:
    """As `preflight`; an encoder that is not there is told before anything is trained.

    Raises:
        ModelError: `explanations.embedding_model` is no folder of a text encoder.
    """
    if config.explanations.embedding_model is not None:
        resolve_text_encoder(config.explanations.embedding_model)
    return preflight(config, root)


def check_reflections(config: ThinkRecConfig) -> None:
    """Refuse a configuration that asks for more accepted reflections than there will be wrong predictions.

    Raises:
        ConfigError: it does.
    """
    wanted, kept = config.reflections.min_accepted, config.wrong_predictions.rows
    if wanted > kept:
        raise ConfigError(
            f"reflections.min_accepted {wanted} exceeds wrong_predictions.rows {kept}",
            "as many wrong predictions as accepted reflections, or more",
            "change one of them",
        )


def check_batch(config: ThinkRecConfig) -> None:
    """Refuse a teacher that is no endpoint which takes batches.

    Raises:
        ConfigError: it is the local one.
    """
    if config.teacher.base_url == LOCAL:
        raise ConfigError(
            "teacher.base_url is local, which takes no batches", "an endpoint's URL, or journal", "set teacher.base_url"
        )
