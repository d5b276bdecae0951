"""Stage `evaluation`: every rung of the ladder on one fixed set of test rows, and reasons in the student's own words."""

from __future__ import annotations

import json

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from storage.crash_points import reached
from storage.models import resolve_model
from storage.schemas import PREDICTIONS
from storage.store import ArtifactRef, Draft
from storage.tables import extended, write_table
from storage.tracking import StageTracker
from tasks.stage import RunContext, run_stage
from thinkrec_core.evaluation.ladder import evaluate_ladder
from thinkrec_core.seeds import generator


@task(name="evaluation", cache_policy=NO_CACHE)
def evaluate(
    context: RunContext,
    data: ArtifactRef,
    encoder: ArtifactRef,
    general: ArtifactRef,
    clusters: ArtifactRef,
    experts: tuple[ArtifactRef, ...],
) -> ArtifactRef | State[ArtifactRef]:
    """The artifact with predictions.parquet, rungs.json, routing.json, experts.json and explanations.json.

    Args:
        experts: the trained experts in the order of their clusters.
    """
    config = context.config
    base = resolve_model(config.llm.model)

    def build(draft: Draft, tracker: StageTracker) -> None:
        from tasks.scoring_bench import ScoringBench  # loads torch, which a cached stage does not need

        bench = ScoringBench(context, base, data, encoder, general, clusters, experts)
        scores = bench.scores(draft.scratch)
        reached("evaluation/scored")
        table = bench.test_table
        label = table.column("label").to_numpy()
        rungs = evaluate_ladder(
            table.column("user_idx").to_numpy(),
            label,
            table.column("not_cold").to_numpy(zero_copy_only=False),
            {str(name): values for name, values in scores.items()},
            config.evaluation.floor,
            config.evaluation.bootstrap,
            generator(config.seed, "bootstrap"),
        )
        names = [f"score_{name}" for name in scores]
        schema = extended(PREDICTIONS, names)
        columns = {name: table.column(name) for name in PREDICTIONS.names}
        columns |= dict(zip(names, scores.values(), strict=True))
        predictions = draft.path / "predictions.parquet"
        draft.manifest["rows"] = write_table(predictions, columns, schema)
        routing = bench.routing_figures()
        (draft.path / "routing.json").write_text(json.dumps(routing, indent=1) + "\n")
        tracker.metrics({f"users_{name}": count for name, count in routing["routes"].items()})
        figures = bench.expert_figures(draft.scratch)
        (draft.path / "experts.json").write_text(json.dumps(figures, indent=1) + "\n")
        explanations = bench.explanations(scores)
        reached("evaluation/explained")
        (draft.path / "rungs.json").write_text(json.dumps(rungs, indent=1) + "\n")
        (draft.path / "explanations.json").write_text(json.dumps(explanations, indent=1) + "\n")
        for name, rung in rungs["rungs"].items():
            tracker.metrics({f"{name}/{key}": rung[key] for key in ("auc", "uauc", "ndcg@5", "map@5", "log_loss")})
        tracker.dataset(predictions, "predictions", data.digest, "test")
        tracker.artifact(draft.path / "rungs.json")

    return run_stage(
        context,
        "evaluation",
        build,
        inputs={
            "data": data,
            "encoder": encoder,
            "general": general,
            "clusters": clusters,
            **{f"expert_{number}": ref for number, ref in enumerate(experts)},
            "model": base.digest,
        },
        settings={
            "seed": config.seed,
            "evaluation": config.evaluation,
            "bias": config.ladder.bias,
            "prior": config.training.prior,
            "llm": config.llm.model_dump(mode="json", exclude={"model", "dtype", "lora"}),
            "history": config.data.history,
            "experts": config.experts.model_dump(mode="json", include={"last_layers", "ablations", "router"}),
        },
    )
