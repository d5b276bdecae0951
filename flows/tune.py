"""Tuning: the settings of one encoder, searched on valid rows."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from prefect import flow

from flows.config import load_config
from flows.data import prepared
from flows.run import Run, open_run
from flows.tune_options import search_of
from storage.store import ArtifactStore
from tasks.tune_encoder import Search, tune_encoder
from thinkrec_core.config.encoder import KINDS
from thinkrec_core.recllm.selection import SelectBy

BEST = "best.yaml"


@flow(name="tune", flow_run_name="tune {encoder}", persist_result=False)
def tune(
    encoder: str,
    preset: str = "quickstart",
    overrides: dict[str, Any] = {},  # noqa: B006 - never changed; the server's form shows it as the default
    trials: int = 30,
    by: SelectBy = "auc",
    seeds: int = 1,
    ranges: list[str] = [],  # noqa: B006 - never changed
    prune: bool = True,
) -> dict[str, Any]:
    """The summary of a search, also kept as runs/<run>.json below the store.

    Keys: run, preset, seconds, stages, all_cached, artifacts, encoder, the keys of `tune_encoder`, set (options that give
    the best settings to `thinkrec run`), set_ladder (the same for `thinkrec ladder`), config (a file with both), mlflow_run,
    mlflow_uri.

    Args:
        encoder: mf, lightgcn, ..., or package.module:Class.
        preset: name of a preset.
        overrides: fields that replace those of the preset, nested or dotted.
        trials: finished trials that the study shall have, those of earlier runs included.
        by: the valid figure that is made large.
        seeds: fits per trial.
        ranges: field=low:high or field=value,value,...
        prune: end trials early that look bad.

    Raises:
        ThinkRecError: a mistake of the user; finished trials are kept.
    """
    config = load_config(preset, overrides)
    search = search_of(config, encoder, trials, by, seeds, ranges, prune)
    with open_run(f"tune-{preset}", config, lambda _, root: ArtifactStore(root)) as run:
        data = prepared(run)
        found = tune_encoder(run.context, data, search)
        return run.keep(_summary(run, preset, search, found))


def _summary(run: Run, preset: str, search: Search, found: Mapping[str, Any]) -> dict[str, Any]:
    kind, best = search.base.kind, found["best"]
    places: dict[str, Any] = {"set": None, "set_ladder": None, "config": None}
    if best is not None:
        settings = {"kind": kind, **best["params"]}
        rung = kind if kind in KINDS else "own"
        target = Path(found["folder"]) / BEST
        whole = search.base.model_dump(mode="json") | settings
        _write(target, {"encoder": whole, "ladder": {rung: deepcopy(whole)}})  # one object twice would be a YAML alias
        places = {
            "set": _assignments("encoder", settings),
            # The rung `own` has no settings until it is named as a whole.
            "set_ladder": (
                _assignments("ladder", {rung: settings}) if rung == "own" else _assignments(f"ladder.{rung}", settings)
            ),
            "config": str(target),
        }
        run.context.tracker.metrics({"best": best["value"], **{f"best/{k}": v for k, v in best["valid"].items()}})
        run.context.tracker.artifact(target)
    run.context.tracker.tags({"thinkrec.study": found["study"]})
    run.context.tracker.metrics({"trials": found["finished"], "pruned": found["pruned"]})
    return {
        "run": run.name,
        "preset": preset,
        "seconds": run.seconds,
        **run.stages(),
        "encoder": kind,
        **found,
        **places,
        "mlflow_run": run.context.tracker.run_id,
        "mlflow_uri": run.context.tracker.uri,
    }


def _assignments(prefix: str, settings: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{prefix}.{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()
    ]
    return [f"--set {shlex.quote(line)}" for line in lines]


def _write(path: Path, values: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(yaml.safe_dump(dict(values), sort_keys=False), encoding="utf-8")
    os.replace(partial, path)
