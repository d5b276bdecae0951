"""What the report is made of: plain JSON values, so that a report can be drawn from files of any run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """One training: its name, what it ended with, and its records by step."""

    name: str
    """"general" or "expert 0" ..."""
    facts: Values
    """best_step, best_score, select_by, steps, train_rows, ...; empty where unknown."""
    records: Sequence[Values]
    """Training records {phase, step, kind, bce, ce, ...} and validation records {phase, step, valid: {...}}."""


@dataclass(frozen=True)
class ReportValues:
    """Everything that a report shows. Only the configuration and the evaluation are required."""

    config: Values
    """The whole configuration of the run."""
    evaluation: Values
    """What `evaluation.ladder.evaluate_ladder` returned."""
    data: Values = field(default_factory=dict)
    """Statistics of the data stage."""
    encoder: Values = field(default_factory=dict)
    """Figures of the CF encoder."""
    wrong: Values = field(default_factory=dict)
    """Summary of the wrong predictions."""
    reflections: Values = field(default_factory=dict)
    """Summary of the reflections."""
    traces: Sequence[Values] = ()
    """A few reflections: row, label, verdict, rounds, accepted, reason, trace."""
    general: Training | None = None
    """Training of the general adapter."""
    experts: Sequence[Training] = ()
    """Trainings of the expert adapters."""
    clusters: Values = field(default_factory=dict)
    """clusters.json of the clusters stage, and routing.json of the evaluation."""
    expert_figures: Values = field(default_factory=dict)
    """What `evaluation.expert_figures.expert_figures` returned; empty without experts."""
    choice: Values = field(default_factory=dict)
    """choice.json: the numbers of experts that were compared on valid rows; empty where the number was given."""
    drift: Values = field(default_factory=dict)
    """What `evaluation.drift.drift_report` returned; empty without a champion that was trained on other data."""
    promotion: Values = field(default_factory=dict)
    """What `evaluation.promotion.decide` returned; empty where nothing was registered."""
    warm: bool = False
    """Whether training started from the champion's weights."""
    explanations: Sequence[Values] = ()
    """user_id, item_id, title, label, history [{title, label}], scores {rung: float}, route, gates, text."""
