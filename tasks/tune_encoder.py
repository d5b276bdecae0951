"""Search for the settings of an encoder on valid rows: Optuna asks, a fit answers, the store remembers.

Trials are drawn from a seed and from what finished before, never from when it did: a search that was killed and went on
ends with the trials of one that was not. Test rows are not read.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.code_digest import code_digest, library_versions
from storage.encoder_data import read_examples, read_sizes
from storage.store import ArtifactRef
from storage.studies import open_study
from storage.tracking import StageTracker
from tasks.encoder_settings import encoder_settings
from tasks.stage import RunContext
from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.examples import Examples, Sizes
from thinkrec_core.errors import TrainingError
from thinkrec_core.evaluation.auc import auc, uauc
from thinkrec_core.evaluation.calibration import log_loss
from thinkrec_core.recllm.selection import SelectBy, selection_score
from thinkrec_core.seeds import derived_seed
from thinkrec_core.tuning.space import Choices, Range, Space, described

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution

RANDOM_TRIALS = 10
"""Trials before the sampler learns from what it saw."""
PRUNED_AFTER = 5
"""Epochs that every trial may run, since small rates start slowly; then one below the median of earlier trials ends."""


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        base: the settings of everything outside of the space; its own point of the space is the first trial.
        by: the valid figure that is made large.
        trials: finished trials that the study shall have, those of earlier runs included.
        seeds: fits per trial; its figures are means over them.
        prune: end trials early that look bad.
    """

    base: EncoderConfig
    space: Space
    by: SelectBy
    trials: int
    seeds: int = 1
    prune: bool = True


@dataclass(frozen=True)
class _Rows:
    train: Examples
    valid: Examples
    sizes: Sizes


@task(name="tune", cache_policy=NO_CACHE)
def tune_encoder(context: RunContext, data: ArtifactRef, search: Search) -> dict[str, Any]:
    """The state of the study after it has `search.trials` finished trials.

    Keys: study, folder, by, seeds, space, best and default (each number, value, valid, params, epochs; default is the trial
    of the base settings), trials [{number, state, value, valid, params, epochs, seconds}], finished, pruned, killed.

    Raises:
        StoreError: another process works on the study.
    """
    folder = context.store.path(data)
    # Of the samples of test not even the file is opened.
    rows = _Rows(
        read_examples(folder / "samples_train.parquet"),
        read_examples(folder / "samples_valid.parquet"),
        read_sizes(folder),
    )
    name = _study_name(context, data, search)
    with open_study(context.store.root, name) as (study, place):
        finished = len(_finished(study))
        if finished:
            context.view.say(f"  study {name} has {finished} finished trials")
        with context.view.progress("trials", search.trials) as advance:
            while (done := len(_finished(study))) < search.trials:
                advance(completed=done, note=_best_note(study))
                _one_trial(context, study, search, rows, done)
        return {"study": name, "folder": str(place), "by": search.by, "seeds": search.seeds, **_state(study, search)}


def _one_trial(context: RunContext, study: Study, search: Search, rows: _Rows, done: int) -> None:
    import optuna

    trial = _ask(study, search, context.config.seed, done)
    config = EncoderConfig.model_validate(search.base.model_dump() | trial.params)
    start = time.monotonic()
    with context.tracker.stage(f"trial_{trial.number}") as tracker:
        tracker.params(trial.params)
        try:
            found = _fit(config, search, rows, context.config.seed, trial, tracker)
        except optuna.TrialPruned:
            _close(study, trial, start, None)
            told = "ended early"
        except TrainingError as error:
            trial.set_user_attr("error", error.found)
            _close(study, trial, start, None)
            told = error.found
        except BaseException:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
        else:
            value = selection_score(found["valid"], search.by)
            for key, of in found.items():
                trial.set_user_attr(key, of)
            _close(study, trial, start, value)
            tracker.metrics({**found["valid"], "value": value})
            told = f"{search.by} {value:.4f}"
    context.view.say(f"  trial {trial.number:<4} {told}   {_words(trial.params)}")


def _ask(study: Study, search: Search, seed: int, done: int) -> Trial:
    """The next trial; the first one has the base settings, where the space holds them."""
    import optuna

    study.sampler = optuna.samplers.TPESampler(
        seed=derived_seed(seed, "tune", done) % 2**32, n_startup_trials=RANDOM_TRIALS, multivariate=True
    )
    if not done and not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
        start = {name: getattr(search.base, name) for name in search.space}
        if all(part.holds(start[name]) for name, part in search.space.items()):
            study.enqueue_trial(start)
    study.pruner = (
        optuna.pruners.MedianPruner(n_startup_trials=RANDOM_TRIALS // 2, n_warmup_steps=PRUNED_AFTER)
        if search.prune
        else optuna.pruners.NopPruner()
    )
    return study.ask({name: _distribution(part) for name, part in search.space.items()})


def _fit(
    config: EncoderConfig, search: Search, rows: _Rows, seed: int, trial: Trial, tracker: StageTracker
) -> dict[str, Any]:
    """valid {auc, uauc, log_loss} of the best epochs, means over seeds, and these epochs."""
    import optuna

    from thinkrec_core.encoders.fit import Epoch, fit_encoder, score_examples

    figures, epochs = [], []
    for number in range(search.seeds):
        curve: list[tuple[str, float, int]] = []

        def watch(epoch: Epoch, number: int = number, curve: list[tuple[str, float, int]] = curve) -> None:
            if math.isnan(epoch.valid_auc):
                return
            curve.append((f"valid_auc_seed{number}", epoch.valid_auc, epoch.epoch))
            if number == 0:
                trial.report(epoch.valid_auc, epoch.epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            fitted = fit_encoder(config, rows.train, rows.valid, rows.sizes, seed + number, watch)
        finally:
            tracker.metric_batch(curve)
        scores = score_examples(fitted.encoder, rows.valid).astype(np.float64)
        figures.append(
            {
                "auc": auc(scores, rows.valid.label),
                "uauc": uauc(rows.valid.user_idx, scores, rows.valid.label),
                "log_loss": log_loss(scores, rows.valid.label),
            }
        )
        epochs.append(fitted.best_epoch)
    return {"valid": {name: _mean([of[name] for of in figures]) for name in figures[0]}, "epochs": epochs}


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None


def _close(study: Study, trial: Trial, start: float, value: float | None) -> None:
    """Tell what came out; a trial without a value counts as pruned, which the sampler takes for bad."""
    import optuna

    trial.set_user_attr("seconds", round(time.monotonic() - start, 3))
    state = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
    study.tell(trial, value, state)


def _finished(study: Study) -> list[Any]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _state(study: Study, search: Search) -> dict[str, Any]:
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    told = [
        {
            "number": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value if trial.state == TrialState.COMPLETE else None,
            "params": dict(trial.params),
            **{key: trial.user_attrs.get(key) for key in ("valid", "epochs", "seconds", "error")},
        }
        for trial in trials
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]
    complete = [trial for trial in told if trial["value"] is not None]
    start = {name: getattr(search.base, name) for name in search.space}
    return {
        "space": described(search.space),
        "best": max(complete, key=_value, default=None),
        "default": next((trial for trial in complete if trial["params"] == start), None),
        "trials": told,
        "finished": len(told),
        "pruned": len(told) - len(complete),
        "killed": sum(trial.state == TrialState.FAIL for trial in trials),
    }


def _value(trial: Mapping[str, Any]) -> float:
    return float(trial["value"])


def _study_name(context: RunContext, data: ArtifactRef, search: Search) -> str:
    """Kind and key: trials of other rows, settings, spaces or code never meet in one study."""
    config = encoder_settings(search.base)
    base = config.pop("encoder").model_dump(mode="json", exclude={*search.space, "prior_folds", "fold_by"})
    identity = {
        "data": data.digest,
        "base": base,
        **config,
        "space": described(search.space),
        "by": search.by,
        "seeds": search.seeds,
        "prune": search.prune,
        "seed": context.config.seed,
        "code": code_digest("thinkrec_core.encoders.fit"),
        "libraries": library_versions("thinkrec_core.encoders.fit") | library_versions("storage.studies"),
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', search.base.kind)}-{key}"


def _distribution(part: Range | Choices) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(part, Choices):
        return CategoricalDistribution(part.values)
    if part.whole:
        return IntDistribution(int(part.low), int(part.high), log=part.log)
    return FloatDistribution(part.low, part.high, log=part.log)


def _best_note(study: Study) -> str:
    values = [trial.value for trial in _finished(study) if trial.value is not None and trial.state.name == "COMPLETE"]
    return f"best {max(values):.4f}" if values else ""


def _words(params: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in params.items()
    )
