"""A run beside the model in use: drift before training, registration and promotion after the evaluation.

    standing(run)      who is champion of the model that this run competes for
    drift_of(...)      the champion on the new valid window
    promoted(...)      candidate and champion on the same rows; the alias moves or stays

MLflow's registry is asked and told here and nowhere else. Where it cannot be used, the run goes on and says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

from flows.notify import notify
from flows.pages import promotion_page
from flows.run import Run
from flows.training import Trained
from storage.bundle import Bundle, export_bundle, open_bundle
from storage.crash_points import reached
from storage.model_registry import CHAMPION, ModelRegistry, Version, model_name
from storage.models import resolve_model
from storage.store import ArtifactRef
from tasks.adopt_weights import adopt_weights, check_fit
from tasks.promote import decide_promotion, measure_drift
from tasks.score_window import score_window
from thinkrec_core.errors import DataError, ThinkRecError, one_line

logger = logging.getLogger(__name__)

Values = dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """The model that a run competes for, as it was when asked."""

    registry: ModelRegistry
    model: str
    champion: Version | None
    bundle: Bundle | None
    """The champion's; None without one, or where it cannot be used."""
    trouble: str = ""
    """Why it cannot."""


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate, for summary and report."""

    told: Values | None = None
    """The decision with model, version, champion (the number of the version that is champion now); None if not registered."""
    promotion: ArtifactRef | None = None
    drift: ArtifactRef | None = None


def standing(run: Run) -> Standing | None:
    """Where this run stands; None if it is not tracked, or registers nothing (`rerun.promote`)."""
    config, registry = run.context.config, run.context.tracker.registry()
    if registry is None or not config.rerun.promote:
        return None
    model = model_name(run.preset, config.data.source)
    try:
        champion = registry.holder(model, CHAMPION)
    except Exception as error:
        logger.warning("MLflow's registry cannot be read (%s); nothing is promoted", one_line(str(error), 200))
        return None
    if champion is None:
        return Standing(registry, model, None, None)
    try:
        bundle = open_bundle(registry.folder(champion))
        base = resolve_model(bundle.config.llm.model)
        if base.digest != bundle.facts["base"]["digest"]:
            told = f"base model {bundle.config.llm.model} is not the one that {champion.name} was trained on"
            return Standing(registry, model, champion, None, told)
    except ThinkRecError as error:
        return Standing(registry, model, champion, None, str(error))
    return Standing(registry, model, champion, bundle)


def drift_of(run: Run, at: Standing | None, data: ArtifactRef) -> ArtifactRef | None:
    """The drift artifact; None without a champion, or where it was trained on the same data."""
    if at is None or at.champion is None or at.champion.facts.get("data") == data.digest:
        return None
    if at.bundle is None:
        run.context.view.say(f"  warning            the champion cannot be used: {at.trouble}")
        return None
    drift = run(measure_drift, at.bundle, data, _scores(run, at.bundle, data, "champion_scores"))
    for warning in _read(run, drift, "drift.json")["warnings"]:
        run.context.view.say(f"  drift              {warning}")
    return drift


def starting_point(run: Run, at: Standing | None, data: ArtifactRef) -> ArtifactRef | None:
    """The weights that training starts from under `rerun.start_from: champion`; None to start from nothing.

    A champion that was trained on the same data is no new start: then it is the one that the champion started from, so that
    an unchanged rerun finds everything in the store.

    Raises:
        ConfigError: the champion has other settings than the run, so that its weights do not fit.
    """
    if run.context.config.rerun.start_from != "champion" or at is None or at.champion is None:
        return None
    if at.champion.facts.get("data") == data.digest:
        known = at.champion.facts.get("start")
        ref = ArtifactRef.model_validate_json(known) if known else None
        return ref if ref and run.context.store.find(ref.stage, ref.key) == ref else None
    if at.bundle is None:
        return None  # told by `drift_of`
    check_fit(run.context.config, at.bundle.config, at.champion.name)
    return run(adopt_weights, at.bundle)


def promoted(
    run: Run, at: Standing | None, trained: Trained, evaluation: ArtifactRef, drift: ArtifactRef | None
) -> Outcome:
    """Register the candidate of `run` and decide about it.

    A candidate that was made from the same artifacts as a registered version is that version: its decision stands.
    """
    if at is None:
        return Outcome(drift=drift)
    try:
        return _promoted(run, at, trained, evaluation, drift)
    except ThinkRecError:
        raise
    except Exception as error:  # tracking tells about a run, it does not stop one
        logger.warning("the model was not registered (%s); the run goes on", one_line(str(error), 200))
        return Outcome(drift=drift)


def _promoted(run: Run, at: Standing, trained: Trained, evaluation: ArtifactRef, drift: ArtifactRef | None) -> Outcome:
    registry, parts = at.registry, _parts(trained)
    version = registry.with_parts(at.model, parts)
    if version is not None and _settled(at, version):
        return _known(run, at, version)
    bundle = _bundle(run, at, version, evaluation)
    if version is None:
        facts = {"data": trained.data.digest, "start": _ref(trained.start), "drift": _ref(drift)}
        version = registry.register(at.model, bundle, parts, run.context.tracker.run_id, facts)
    reached("promotion/registered")
    while True:
        decision, ref = _decide(run, at, version, bundle, trained.data)
        with registry.deciding():
            held = registry.holder(at.model, CHAMPION)
            if _number(held) == _number(at.champion):
                registry.decided(version, decision, run.context.tracker.run_id, {"promotion": _ref(ref)})
                reached("promotion/decided")
                if decision["decision"] == "promoted":
                    registry.promote(version)
                break
        at = standing(run) or at  # another run has promoted its own in the meantime
    number = version.number if decision["decision"] == "promoted" else _number(held)
    told = {**decision, "model": at.model, "version": version.number, "champion_version": number}
    _tell(run, told)
    return Outcome(told, ref, drift)


def _decide(
    run: Run, at: Standing, version: Version, bundle: Bundle, data: ArtifactRef
) -> tuple[Values, ArtifactRef | None]:
    if at.champion is not None and at.bundle is None:
        return {"decision": "refused", "reason": f"the champion cannot be scored: {at.trouble}"}, None
    scores = None
    if at.champion is not None and at.bundle is not None and at.champion.number != version.number:
        champion = _scores(run, at.bundle, data, "champion_scores")
        scores = champion, _scores(run, bundle, data, "candidate_scores")
    ref = run(decide_promotion, bundle.digest, scores)
    return _read(run, ref, "promotion.json"), ref


def _known(run: Run, at: Standing, version: Version) -> Outcome:
    """The outcome of a version that an earlier run registered and decided about."""
    facts, store = version.facts, run.context.store
    found: dict[str, ArtifactRef | None] = {}
    for name in ("promotion", "drift"):
        ref = ArtifactRef.model_validate_json(facts[name]) if facts.get(name) else None
        found[name] = ref if ref is not None and store.find(ref.stage, ref.key) == ref else None
    ref = found["promotion"]
    decision = _read(run, ref, "promotion.json") if ref else {k: facts[k] for k in ("decision", "reason")}
    told = {**decision, "model": at.model, "version": version.number, "champion_version": _number(at.champion)}
    return Outcome(told, **found)


def _settled(at: Standing, version: Version) -> bool:
    """Whether a decision about `version` was written and carried out: a run may have been killed between the two."""
    facts = version.facts
    done = facts.get("decision") == "refused" or "moved" in facts or _number(at.champion) == version.number
    return "decision" in facts and done


def _number(version: Version | None) -> int | None:
    return version.number if version else None


def _bundle(run: Run, at: Standing, version: Version | None, evaluation: ArtifactRef) -> Bundle:
    """The candidate's bundle: that of the registered version, or this run's, exported."""
    if version is not None:
        with contextlib.suppress(DataError):  # gone or damaged: exported again
            return open_bundle(at.registry.folder(version))
    rungs = _read(run, evaluation, "rungs.json")
    config = run.context.config.model_dump(mode="json")
    summary = {"run": run.name, **run.stages(), "config": config, "rungs": rungs["rungs"], "rows": rungs["rows"]}
    return open_bundle(export_bundle(at.registry.root, summary, at.registry.root / "bundles" / run.name))


def _scores(run: Run, bundle: Bundle, data: ArtifactRef, label: str) -> ArtifactRef:
    return run(score_window.with_options(name=label), bundle, data, label)


def _tell(run: Run, told: Values) -> None:
    tracker = run.context.tracker
    tracker.metrics({f"promotion/{k}": v for k, v in told.items() if isinstance(v, float)})
    tracker.tags({f"thinkrec.{name}": told[name] for name in ("model", "version", "decision", "reason")})
    run.context.view.say(f"  {told['model']} version {told['version']} {told['decision']}: {told['reason']}")
    promotion_page(told)
    if told["decision"] == "promoted":
        notify("promoted", run=run.name, preset=run.preset, **told)


def _parts(trained: Trained) -> str:
    """sha256 of what a bundle is made from, equal for equal runs."""
    refs = [trained.data, trained.encoder, trained.general, trained.clusters, *trained.experts]
    return hashlib.sha256("".join(ref.digest for ref in refs).encode()).hexdigest()


def _ref(ref: ArtifactRef | None) -> str | None:
    return ref.model_dump_json() if ref else None


def _read(run: Run, ref: ArtifactRef, name: str) -> Values:
    return dict(json.loads((run.context.store.path(ref) / name).read_text(encoding="utf-8")))
