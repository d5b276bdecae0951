"""Registered models: each trained bundle is a LoggedModel and a version in MLflow's registry.

    alias candidate     the newest version
    alias champion      the version in use; moved by a run whose paired interval is above the margin, or by hand

A model of the registry is what runs of one preset on one data source compete for (`model_name`). Every version carries its
decision in its tags, and its bundle is kept twice: below bundles/ of the store, and as artifacts of the LoggedModel.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from storage.bundle import Bundle
from storage.mlflow_backend import DATABASE, Backend, metric_name
from thinkrec_core.errors import DataError, StoreError, one_line

CHAMPION, CANDIDATE = "champion", "candidate"
ARTIFACT = "bundle"
"""Folder of the bundle within the artifacts of its LoggedModel."""
_TAG = "thinkrec."


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    model: str
    number: int
    facts: Mapping[str, str]
    """Tags without prefix: run, parts, bundle (below the store's root), digest, logged_model, decision, ..."""
    aliases: tuple[str, ...]
    source: str
    """URI of the LoggedModel's artifacts."""

    @property
    def name(self) -> str:
        """As commands take it."""
        return f"{self.model}/{self.number}"

    @property
    def run(self) -> str:
        """The run that trained it."""
        return self.facts.get("run", "")


def model_name(preset: str, source: str) -> str:
    """The registered model that runs of `preset` on the data `source` compete for: "quickstart-ml-100k"."""
    place = Path(source).name or source
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{preset}-{place}").strip("-")


class ModelRegistry:
    """The registered models of one store.

    Args:
        backend: the store's open MLflow.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend, self._client, self.root = backend, backend.client, backend.root

    @classmethod
    def opened(cls, root: Path) -> ModelRegistry:
        """The registry of the store at `root`, for reading and for promotions by hand.

        Raises:
            StoreError: no run was ever tracked there, or MLflow cannot be opened.
        """
        if not (root / DATABASE).is_file():
            raise StoreError(f"no models are registered in {root}", "a finished run of thinkrec run")
        try:
            return cls(Backend(root))
        except Exception as error:
            raise StoreError(f"MLflow in {root} cannot be opened ({one_line(str(error), 120)})") from None

    @contextlib.contextmanager
    def deciding(self) -> Iterator[None]:
        """Hold the aliases: of two runs that end at once, one decides after the other."""
        with (self.root / "locks" / "model-registry").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def versions(self, model: str | None = None) -> list[Version]:
        """All versions, of one model if it is named; oldest first."""
        names = [model] if model else sorted(each.name for each in self._client.search_registered_models())
        found = []
        for name in names:
            aliases = self._aliases(name)
            found += [_version(each, aliases) for each in self._client.search_model_versions(f"name = '{name}'")]
        return sorted(found, key=lambda each: (each.model, each.number))

    def holder(self, model: str, alias: str) -> Version | None:
        """The version of `model` that has the alias."""
        number = self._aliases(model).get(alias)
        return next((each for each in self.versions(model) if each.number == number), None)

    def with_parts(self, model: str, parts: str) -> Version | None:
        """The version that was made from the same artifacts, if one was registered."""
        return next((each for each in self.versions(model) if each.facts.get("parts") == parts), None)

    def register(
        self, model: str, bundle: Bundle, parts: str, run_id: str, more: Mapping[str, Any] | None = None
    ) -> Version:
        """A new version of `model`, with the alias candidate.

        Args:
            parts: digest of the artifacts that it was made from.
            run_id: MLflow's id of the run that trained it.
            more: further facts.

        Raises:
            Exception: whatever MLflow raises; the caller goes on without a registry.
        """
        facts = bundle.facts
        tags = _tags(
            {
                "run": bundle.run,
                "parts": parts,
                "digest": bundle.digest,
                "bundle": str(bundle.path.relative_to(self.root)),
                "base_model": facts["base"]["model"],
                "base_digest": facts["base"]["digest"],
                **(more or {}),
            }
        )
        logged = self._client.create_logged_model(
            self._backend.experiment_id,
            name=re.sub(r"[^\w-]", "-", bundle.run),
            source_run_id=run_id,
            model_type="thinkrec-bundle",
            tags=tags,
            params={"base_model": str(facts["base"]["model"]), "experts": str(len(bundle.experts)), "run": bundle.run},
        )
        self._client.log_model_artifacts(logged.model_id, str(bundle.path), ARTIFACT)
        self._client.finalize_logged_model(logged.model_id, "READY")
        self._measured(logged.model_id, run_id, _figures(facts["metrics"]))
        if not any(each.name == model for each in self._client.search_registered_models(f"name = '{model}'")):
            self._client.create_registered_model(model, description="Bundles of thinkrec; see docs/operations.md.")
        made = self._client.create_model_version(
            model,
            logged.artifact_location,
            run_id=run_id,
            tags={**tags, f"{_TAG}logged_model": logged.model_id},
            model_id=logged.model_id,
        )
        self._client.set_registered_model_alias(model, CANDIDATE, str(made.version))
        return _version(made, self._aliases(model))

    def decided(
        self, version: Version, decision: Mapping[str, Any], run_id: str, more: Mapping[str, Any] | None = None
    ) -> None:
        """Write the decision about `version`, and `more`, into its tags, its description and the metrics of its LoggedModel."""
        # The decision itself comes last: a version that has it has all.
        for name, value in reversed(_tags({**decision, **(more or {})}).items()):
            self._client.set_model_version_tag(version.model, str(version.number), name, value)
        told = f"{decision['decision']}: {decision['reason']}"
        self._client.update_model_version(version.model, str(version.number), told)
        numbers = {f"promotion/{k}": v for k, v in decision.items() if isinstance(v, float)}
        self._measured(version.facts.get("logged_model", ""), run_id, numbers)

    def promote(self, version: Version) -> None:
        """Move the alias champion to `version`, and note that it was moved."""
        self._client.set_registered_model_alias(version.model, CHAMPION, str(version.number))
        self._client.set_model_version_tag(version.model, str(version.number), f"{_TAG}moved", "yes")

    def folder(self, version: Version) -> Path:
        """The bundle of `version` on this machine.

        Raises:
            DataError: neither the store nor MLflow has it any more.
        """
        kept = self.root / version.facts.get("bundle", "bundles")
        logged = Path(unquote(urlparse(version.source).path)) / ARTIFACT
        for folder in (kept, logged):
            if (folder / "bundle.json").is_file():
                return folder
        raise DataError(f"the bundle of {version.name} is gone from {kept} and {logged}", "one of both", "rerun it")

    def _aliases(self, model: str) -> dict[str, int]:
        found = self._client.search_registered_models(f"name = '{model}'")
        return {alias: int(number) for each in found for alias, number in each.aliases.items()}

    def _measured(self, model_id: str, run_id: str, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        if model_id and figures:
            now = int(time.time() * 1000)
            points = [Metric(metric_name(name), value, now, 0, model_id=model_id) for name, value in figures.items()]
            self._client.log_batch(run_id, metrics=points)


def named_version(registry: ModelRegistry, name: str) -> Version:
    """The version called `champion`, `candidate`, `MODEL@ALIAS` or `MODEL/NUMBER`.

    Raises:
        DataError: there is none, or the bare alias fits several models.
    """
    known = registry.versions()
    model, at, alias = name.rpartition("@")
    if not at:
        model, _, number = name.rpartition("/")
        fitting = [each for each in known if each.name == name] if number.isdecimal() else []
        fitting = fitting or [each for each in known if name in each.aliases]
    else:
        fitting = [each for each in known if each.model == model and alias in each.aliases]
    if len(fitting) == 1:
        return fitting[0]
    told = ", ".join(f"{each.name} {' '.join(each.aliases)}".strip() for each in known[-8:]) or "a finished run"
    if fitting:
        several = " or ".join(f"{each.model}@{name}" for each in fitting)
        raise DataError(f"{len(fitting)} models have a version called {name}", several, "name the model")
    raise DataError(f"no registered version {name} in {registry.root}", told, "see thinkrec models")


def bundle_folder(root: Path, name: str) -> Path | None:
    """The folder of the registered bundle `name` in the store at `root`; None if `name` is no name of the registry.

    Args:
        name: champion, candidate, MODEL@champion, MODEL@candidate or MODEL/NUMBER.

    Raises:
        DataError: no such version, or several.
        StoreError: nothing was ever registered there.
    """
    if name not in (CHAMPION, CANDIDATE) and "@" not in name and not re.fullmatch(r"[\w.-]+/\d+", name):
        return None
    registry = ModelRegistry.opened(root)
    return registry.folder(named_version(registry, name))


def _version(found: Any, aliases: Mapping[str, int]) -> Version:
    number = int(found.version)
    facts = {k.removeprefix(_TAG): str(v) for k, v in found.tags.items()}
    held = tuple(sorted(alias for alias, holder in aliases.items() if holder == number))
    return Version(found.name, number, facts, held, str(found.source))


def _tags(values: Mapping[str, Any]) -> dict[str, str]:
    return {f"{_TAG}{k}": v if isinstance(v, str) else json.dumps(v) for k, v in values.items() if v is not None}


def _figures(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {
        f"{rung}/{figure}": float(value)
        for rung, figures in metrics.items()
        for figure, value in figures.items()
        if isinstance(value, (int, float))
    }
