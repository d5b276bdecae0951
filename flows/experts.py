"""The part of the pipeline that differs between groups of users: clusters, one expert per cluster, and how many of them.

Experts are independent of each other, so a Prefect task runner may train them at once: threads on this machine, Ray or Dask.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prefect.client.schemas.objects import State

from flows.run import Run
from flows.task_runners import running
from storage.rec_data import trained_clusters, users_digest
from storage.store import ArtifactRef
from tasks.choose_experts import Candidate, choose_experts
from tasks.cluster_users import cluster_users
from tasks.stage import StageResult
from tasks.train_llm import train_expert


@dataclass(frozen=True)
class Experts:
    """The clusters of a run and their trained experts, in the order of their clusters."""

    clusters: ArtifactRef
    experts: tuple[ArtifactRef, ...]
    choice: ArtifactRef | None = None
    """How the number of experts was chosen on valid rows; None where it was given."""


def make_experts(
    run: Run, data: ArtifactRef, encoder: ArtifactRef, reflections: ArtifactRef, general: ArtifactRef
) -> Experts:
    """The experts of `run`, as `experts` of its configuration says.

    Under `choose: valid` experts are trained for every candidate N, those of the same users once, and the N with the best score
    on valid rows stays.
    """
    config = run.context.config.experts
    inputs = {"data": data, "encoder": encoder, "reflections": reflections, "general": general}
    if config.choose != "valid":
        clusters = run(cluster_users, data, encoder)
        trained = _train(run, inputs, {None: clusters})
        return Experts(clusters, trained[None])
    by_count: dict[int | None, ArtifactRef] = {
        count: run(cluster_users.with_options(name=f"clusters_{count}"), data, encoder, count)
        for count in config.candidates
    }
    trained = _train(run, inputs, by_count)
    candidates = [Candidate(count, by_count[count], trained[count]) for count in config.candidates]
    choice = run(choose_experts, data, encoder, general, candidates)
    count = json.loads((run.context.store.path(choice) / "choice.json").read_text())["count"]
    return Experts(by_count[count], trained[count], choice)


def _train(
    run: Run, inputs: Mapping[str, ArtifactRef], partitions: Mapping[int | None, ArtifactRef]
) -> dict[int | None, tuple[ArtifactRef, ...]]:
    """The trained experts of each partition; clusters of the same users share one."""
    path = run.context.store.path
    groups: dict[int | None, list[str]] = {}
    calls: dict[str, dict[str, Any]] = {}
    for count, clusters in partitions.items():
        groups[count] = []
        for index in trained_clusters(path(clusters)):
            users = users_digest(path(clusters), index)
            label = f"expert_{index}" if count is None else f"expert_{index}_of_{count}"
            calls.setdefault(users, {**inputs, "clusters": clusters, "index": index, "label": label})
            groups[count].append(users)
    trained = dict(zip(calls, _call_all(run, list(calls.values())), strict=True))
    return {count: tuple(trained[users] for users in own) for count, own in groups.items()}


def _call_all(run: Run, calls: list[dict[str, Any]]) -> list[ArtifactRef]:
    """The artifacts of `train_expert` for each of `calls`, one after the other or at once."""
    parallel = run.context.config.experts.parallel
    if parallel.runner == "sequential" or len(calls) < 2:
        return [run(train_expert.with_options(name=call["label"]), **call) for call in calls]
    run.go_on(calls[0]["label"])
    stop = threading.Event()
    here = parallel.runner == "threads"
    sharers = 1 if parallel.address else min(parallel.workers, len(calls))
    context = replace(run.context, stop=stop if here else None, sharers=sharers)
    with running(parallel, "experts.parallel.runner") as runner:
        futures = [
            runner.submit(train_expert.with_options(name=call["label"]), {"context": context, **call}) for call in calls
        ]
        try:
            for future in futures:
                future.wait()
        except BaseException:
            stop.set()  # Ctrl-C: the workers of this machine end with the run
            raise
        states = _failures_first([future.state for future in futures])
    return [_result(run, call["label"], state) for call, state in zip(calls, states, strict=True)]


def _failures_first(states: list[State[Any]]) -> list[State[Any]]:
    """`states`, after the first failure was raised: not that of a training which was only stopped because of it."""
    failed = [state for state in states if not state.is_completed()]
    told = [state for state in failed if "one beside it failed" not in str(state.message)]
    for state in (told or failed)[:1]:
        state.result(raise_on_failure=True)
    return states


def _result(run: Run, label: str, state: State[Any]) -> ArtifactRef:
    ref = state.result()
    if not isinstance(ref, ArtifactRef):
        raise TypeError(f"{label} gave {type(ref).__name__}, not an artifact")
    if label not in run.context.results:  # it ran in another process
        cached = state.name == "Cached"
        seconds = 0.0 if cached else float(run.context.store.manifest(ref)["seconds"])
        run.context.results[label] = StageResult("cached" if cached else "ran", seconds, ref)
        run.context.view.say(f"  {label:<18} " + ("cached" if cached else f"done in {seconds:.1f} s"))
    return ref
