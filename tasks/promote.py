"""Stages `drift` and `promotion`: the new window beside the champion's, and whether the candidate takes its place."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.bundle import Bundle
from storage.schemas import WINDOW_SCORES
from storage.store import ArtifactRef, Draft
from storage.tables import read_table
from storage.tracking import StageTracker
from storage.window import carried_profile, profile_of
from tasks.stage import RunContext, run_stage
from thinkrec_core.evaluation.drift import drift_report
from thinkrec_core.evaluation.promotion import decide, first_decision
from thinkrec_core.seeds import generator

FINAL = "thinkrec_experts"
"""The rung whose figures a bundle's own are: the score that it serves."""


@task(name="drift", cache_policy=NO_CACHE)
def measure_drift(
    context: RunContext, champion: Bundle, data: ArtifactRef, scores: ArtifactRef
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with drift.json, as `thinkrec_core.evaluation.drift.drift_report` gives it.

    Args:
        scores: the champion's, of the valid rows of `data`.
    """
    own = champion.facts["metrics"].get(FINAL, {})

    def build(draft: Draft, tracker: StageTracker) -> None:
        table = _scores(context, scores)
        known = table.filter(table.column("known_item"))
        users, labels, values = (known.column(name).to_numpy() for name in ("user_idx", "label", "score"))
        user_known, item_known = (
            table.column(name).to_numpy(zero_copy_only=False) for name in ("known_user", "known_item")
        )
        old, new = carried_profile(champion.path), profile_of(context.store.path(data))
        report = drift_report(old, new, user_known, item_known, (users, labels, values), own)
        (draft.path / "drift.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
        tracker.metrics({f"psi/{name}": value for name, value in report["stability"].items()})
        tracker.metrics({f"champion/{k}": report["champion"][k] for k in ("auc", "uauc", "own_auc", "own_uauc")})
        tracker.metrics({k: report[k] for k in ("label_rate", "label_rate_champion", "new_user_rows", "new_item_rows")})
        tracker.artifact(draft.path / "drift.json")

    inputs: dict[str, ArtifactRef | str] = {"data": data, "scores": scores, "champion": champion.digest}
    return run_stage(context, "drift", build, inputs=inputs, settings={"own": own})


@task(name="promotion", cache_policy=NO_CACHE)
def decide_promotion(
    context: RunContext, candidate: str, scores: tuple[ArtifactRef, ArtifactRef] | None
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with promotion.json, as `thinkrec_core.evaluation.promotion.decide` gives it, and left_out: valid rows
    that one of the two cannot score.

    Args:
        candidate: digest of its bundle.
        scores: of the champion and of the candidate; None where there is no champion.
    """
    config = context.config

    def build(draft: Draft, tracker: StageTracker) -> None:
        decision = first_decision() if scores is None else _decision(context, scores)
        (draft.path / "promotion.json").write_text(json.dumps(decision, indent=1, sort_keys=True) + "\n")
        tracker.metrics({name: value for name, value in decision.items() if isinstance(value, float)})
        if decision.get("ci"):
            tracker.metrics(dict(zip(("ci_low", "ci_high"), decision["ci"], strict=True)))
        tracker.artifact(draft.path / "promotion.json")

    inputs: dict[str, ArtifactRef | str] = {"candidate": candidate}
    settings: dict[str, Any] = {}
    if scores is not None:
        inputs |= dict(zip(("champion_scores", "candidate_scores"), scores, strict=True))
        settings = {
            "by": config.rerun.by,
            "margin": config.rerun.margin,
            "bootstrap": config.evaluation.bootstrap,
            "seed": config.seed,
        }
    return run_stage(context, "promotion", build, inputs=inputs, settings=settings)


def _decision(context: RunContext, scores: tuple[ArtifactRef, ArtifactRef]) -> dict[str, Any]:
    config = context.config
    champion, candidate = (_scores(context, each) for each in scores)
    if champion.column("row") != candidate.column("row"):
        raise ValueError("champion and candidate were not scored on the same rows")
    both = pc.and_(champion.column("known_item"), candidate.column("known_item"))
    champion, candidate = champion.filter(both), candidate.filter(both)
    left_out = len(both) - champion.num_rows
    if not champion.num_rows:
        told = "the champion knows no item of the new window, so the two cannot be compared; promote by hand"
        return {"decision": "refused", "reason": told, "rows": 0, "left_out": left_out}
    return decide(
        champion.column("user_idx").to_numpy(),
        champion.column("label").to_numpy(),
        champion.column("score").to_numpy(),
        candidate.column("score").to_numpy(),
        config.rerun.by,
        config.rerun.margin,
        config.evaluation.bootstrap,
        generator(config.seed, "promotion"),
    ) | {"left_out": left_out}


def _scores(context: RunContext, ref: ArtifactRef) -> pa.Table:
    return read_table(context.store.path(ref) / "scores.parquet", WINDOW_SCORES)
