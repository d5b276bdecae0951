"""Stage `start`: the weights of a bundle as an artifact, for the stages that start from them."""

from __future__ import annotations

import shutil
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.bundle import Bundle
from storage.store import ArtifactRef, Draft
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ConfigError


@task(name="start", cache_policy=NO_CACHE)
def adopt_weights(context: RunContext, bundle: Bundle) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with adapter/, projector.safetensors, recllm.json, encoder/, users.parquet and items.parquet of `bundle`."""

    def build(draft: Draft, tracker: StageTracker) -> None:
        shutil.copytree(bundle.path / "general", draft.path, dirs_exist_ok=True)
        shutil.copytree(bundle.path / "encoder", draft.path / "encoder")
        for name in ("users.parquet", "items.parquet"):
            shutil.copyfile(bundle.path / name, draft.path / name)

    return run_stage(context, "start", build, inputs={"bundle": bundle.digest}, settings={})


def check_fit(config: ThinkRecConfig, earlier: ThinkRecConfig, name: str) -> None:
    """Return if weights trained under `earlier` have the shapes and the meaning that `config` needs.

    Raises:
        ConfigError: they do not; `name` is what the message calls them.
    """
    for field, one, other in zip(_shapes(config), _shapes(config).values(), _shapes(earlier).values(), strict=True):
        if one != other:
            raise ConfigError(
                f"{field} is {one}, and {name} has {other}",
                "equal settings for rerun.start_from=champion",
                "change it, or set rerun.start_from=nothing",
            )


def _shapes(config: ThinkRecConfig) -> dict[str, Any]:
    encoder, llm = config.encoder, config.llm
    return {
        "llm.model": llm.model,
        "llm.lora.rank": llm.lora.rank,
        "llm.lora.alpha": llm.lora.alpha,
        "llm.lora.target_modules": llm.lora.target_modules,
        "llm.projector": llm.projector,
        "training.prior": config.training.prior,
        "training.schedule": config.training.schedule == "text",
        **{
            f"encoder.{name}": getattr(encoder, name)
            for name in ("kind", "embedding_size", "biases", "layers", "max_length")
        },
    }
