"""The pipeline, in the order of the method: who errs, why, and what a student learns from it.

data -> CF encoder -> [warm start] -> wrong predictions -> the teacher's reflections -> general adapter and projector
     -> user clusters -> one expert per cluster -> evaluation -> report
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.config import load_config
from flows.run import Run, open_run
from flows.summary import summarise
from tasks.cluster_users import cluster_users
from tasks.collect_wrong import collect_wrong_predictions
from tasks.condense_keywords import condense_keywords
from tasks.distil_reflections import distil_reflections
from tasks.evaluate import evaluate
from tasks.prepare_data import prepare_data
from tasks.train_encoder import train_encoder
from tasks.train_llm import train_expert, train_general, train_warm_start, trained_clusters
from tasks.write_report import write_report


@flow(name="thinkrec", flow_run_name="{preset}", persist_result=False)
def thinkrec(
    preset: str = "quickstart",
    overrides: dict[str, Any] = {},  # noqa: B006 - never changed; the server's form shows it as the default
    snapshot: str | None = None,
) -> dict[str, Any]:
    """The summary of a run, as `flows.summary.summarise` gives it; also kept as runs/<run>.json below the store.

    Args:
        preset: name of a preset.
        overrides: fields that replace those of the preset, nested or dotted: {"training.steps": 100}.
        snapshot: a data folder that takes the place of data.source, such as the newest export of a shop.

    Raises:
        ThinkRecError: a mistake of the user; finished stages are kept.
    """
    with open_run(preset, load_config(preset, overrides, snapshot)) as run:
        return pipeline(run)


def pipeline(run: Run) -> dict[str, Any]:
    """All stages in their order; the summary."""
    config = run.context.config
    data = run(prepare_data)
    if config.data.keywords == "teacher":
        data = run(condense_keywords, data)
    encoder = run(train_encoder, data)

    # The student errs, and the teacher explains the errors.
    needs_warm_start = config.wrong_predictions.student == "warm_start"
    warm_start = run(train_warm_start, data, encoder) if needs_warm_start else None
    wrong = run(collect_wrong_predictions, data, encoder, warm_start)
    reflections = run(distil_reflections, wrong)

    # One adapter for all users, then one expert per group of users.
    general = run(train_general, data, encoder, reflections, warm_start)
    clusters = run(cluster_users, data, encoder)
    experts = tuple(
        run(train_expert.with_options(name=f"expert_{index}"), data, encoder, reflections, general, clusters, index)
        for index in trained_clusters(run.context, clusters)
    )

    evaluation = run(evaluate, data, encoder, general, clusters, experts)
    report = run(
        write_report,
        data=data,
        encoder=encoder,
        wrong=wrong,
        reflections=reflections,
        general=general,
        clusters=clusters,
        experts=experts,
        evaluation=evaluation,
    )
    return run.keep(summarise(run, reflections, general, experts, evaluation, report))
