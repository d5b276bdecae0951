"""Stage `choice`: the number of experts with the best score on valid rows, all candidates scored in one pass."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.models import resolve_model
from storage.rec_data import load_gates, trained_clusters
from storage.schemas import PREDICTIONS, SAMPLES
from storage.store import ArtifactRef, Draft
from storage.tables import extended, read_table, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.evaluation.ladder import evaluate_ladder, pick_test_rows
from thinkrec_core.recllm.selection import SelectBy, selection_score
from thinkrec_core.seeds import generator


@dataclass(frozen=True)
class Candidate:
    """One number of experts."""

    count: int
    """N."""
    clusters: ArtifactRef
    experts: tuple[ArtifactRef, ...]
    """The trained ones, in the order of their clusters."""


@task(name="choice", cache_policy=NO_CACHE)
def choose_experts(
    context: RunContext, data: ArtifactRef, encoder: ArtifactRef, general: ArtifactRef, candidates: Sequence[Candidate]
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with choice.json and predictions.parquet (valid rows, one score per N).

    choice.json: count (the chosen N), select_by, rows, users, and by_count: per N its score, auc and uauc with intervals,
    the paired differences to the smallest N (versus_floor), and how many experts were trained. The best score wins; of equal
    ones the smaller N. Test rows play no part.
    """
    config = context.config
    base = resolve_model(config.llm.model)
    distinct = {ref.key: ref for each in candidates for ref in each.experts}

    def build(draft: Draft, tracker: StageTracker) -> None:
        from storage.language_model import load_tokenizer
        from tasks.gate_scorer import GateScorer  # loads torch, which a cached stage does not need
        from tasks.worker.build import Examples

        path = context.store.path
        examples = Examples(config, path(data), path(encoder), load_tokenizer(base.path))
        valid = examples.samples("valid")
        rows = pick_test_rows(valid.user_idx, config.experts.valid_rows, generator(config.seed, "choice"))
        places = {key: 1 + number for number, key in enumerate(distinct)}
        folders = [path(ref) for ref in distinct.values()]
        scorer = GateScorer(base.path, path(general), folders, examples, config.experts.last_layers, context.view)
        settings = []
        for each in candidates:
            numbers = trained_clusters(path(each.clusters))
            own = load_gates(path(each.clusters), config.experts.router, numbers)[valid.user_idx[rows]]
            gates = np.zeros((len(rows), 1 + len(distinct)))
            gates[:, [0, *(places[ref.key] for ref in each.experts)]] = own
            settings.append(gates)
        scores = scorer.score(valid, rows, config.training.scored_prompt, settings)
        if config.training.prior != "none":
            scores += valid.prior[rows]
        names = [f"experts_{each.count}" for each in candidates]
        table = read_table(path(data) / "samples_valid.parquet", SAMPLES).take(rows)
        ladder = evaluate_ladder(
            valid.user_idx[rows],
            valid.label[rows],
            table.column("not_cold").to_numpy(zero_copy_only=False),
            dict(zip(names, scores, strict=True)),
            names[0],
            config.evaluation.bootstrap,
            generator(config.seed, "bootstrap"),
        )
        choice = _chosen(candidates, [ladder["rungs"][name] for name in names], config.training.select_by)
        columns = {name: table.column(name) for name in PREDICTIONS.names}
        columns |= {f"score_{name}": values for name, values in zip(names, scores, strict=True)}
        write_table(draft.path / "predictions.parquet", columns, extended(PREDICTIONS, [f"score_{n}" for n in names]))
        choice |= {"rows": ladder["rows"], "users": ladder["users"]}
        (draft.path / "choice.json").write_text(json.dumps(choice, indent=1) + "\n")
        tracker.metrics(
            {f"experts_{n}/{key}": row[key] for n, row in choice["by_count"].items() for key in ("auc", "uauc")}
        )
        draft.manifest |= {"rows": len(rows), "seed": config.seed}

    return run_stage(
        context,
        "choice",
        build,
        inputs={
            "data": data,
            "encoder": encoder,
            "general": general,
            **{f"clusters_{each.count}": each.clusters for each in candidates},
            **{f"expert_{number}": ref for number, ref in enumerate(distinct.values())},
            "model": base.digest,
        },
        settings={
            "seed": config.seed,
            "training": config.training.model_dump(mode="json", include={"prior", "select_by", "schedule"}),
            "bootstrap": config.evaluation.bootstrap,
            "llm": config.llm.model_dump(mode="json", exclude={"model", "dtype", "lora"}),
            "history": config.data.history,
            "experts": config.experts.model_dump(mode="json", include={"last_layers", "valid_rows", "router"}),
        },
    )


def _chosen(candidates: Sequence[Candidate], rungs: Sequence[Mapping[str, Any]], select_by: SelectBy) -> dict[str, Any]:
    by_count = {}
    for each, rung in zip(candidates, rungs, strict=True):
        score = selection_score({key: rung[key] for key in ("auc", "uauc", "log_loss")}, select_by)
        figures = {key: rung[key] for key in ("auc", "auc_ci", "uauc", "uauc_ci", "log_loss", "versus_floor")}
        by_count[each.count] = {"score": score, "experts": len(each.experts), **figures}
    best = max(by_count, key=lambda count: (by_count[count]["score"], -count))
    return {"count": best, "select_by": select_by, "by_count": by_count}
