"""From data to a trained student: the part of the pipeline that several commands share, in the order of the method."""

from __future__ import annotations

from dataclasses import dataclass

from flows.data import prepared
from flows.encoder import encoded
from flows.experts import make_experts
from flows.run import Run
from storage.store import ArtifactRef
from tasks.collect_wrong import collect_wrong_predictions
from tasks.distil_reflections import distil_reflections
from tasks.train_llm import train_general, train_warm_start


@dataclass(frozen=True)
class Trained:
    """The artifacts of a trained student."""

    data: ArtifactRef
    encoder: ArtifactRef
    wrong: ArtifactRef
    reflections: ArtifactRef
    general: ArtifactRef
    clusters: ArtifactRef
    experts: tuple[ArtifactRef, ...]
    """In the order of their clusters."""
    choice: ArtifactRef | None = None
    """How the number of experts was chosen on valid rows; None where it was given."""
    start: ArtifactRef | None = None
    """The champion's weights that training started from; None where it started from nothing."""


def train(run: Run, data: ArtifactRef | None = None, start: ArtifactRef | None = None) -> Trained:
    """The student of the run's configuration; stages that the store holds are read from it.

    Args:
        data: prepared already.
        start: weights of an earlier model to start from.
    """
    config = run.context.config
    data = data or prepared(run)
    encoder = encoded(run, data, start)

    # The student errs, and the teacher explains the errors.
    needs_warm_start = config.wrong_predictions.student == "warm_start"
    warm_start = run(train_warm_start, data, encoder, start) if needs_warm_start else None
    wrong = run(collect_wrong_predictions, data, encoder, warm_start)
    reflections = run(distil_reflections, wrong)

    # One adapter for all users, then one expert per group of users.
    general = run(train_general, data, encoder, reflections, warm_start or start)
    made = make_experts(run, data, encoder, reflections, general)
    return Trained(data, encoder, wrong, reflections, general, made.clusters, made.experts, made.choice, start)
