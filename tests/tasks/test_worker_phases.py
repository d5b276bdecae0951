"""Which phases a training has, and what each of them trains."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.worker.job import FAILURE, TrainingJob
from tasks.worker.phases import PhasePlan, phases_of
from thinkrec_core.config.root import ThinkRecConfig

SLOW = {"learning_rate": 1e-4, "min_learning_rate": 8e-5, "warmup_learning_rate": 1e-5, "warmup_steps": 5, "steps": 50}
FAST = {"learning_rate": 1e-3, "min_learning_rate": 1e-4, "warmup_learning_rate": 0.0, "warmup_steps": 7, "steps": 20}


def training(kind: str, schedule: str = "staged", here: Path = Path(), **experts: Any) -> TrainingJob:
    config = ThinkRecConfig.model_validate(
        {
            "training": {**SLOW, "schedule": schedule, "projector": FAST, "objective": {"reasoning_probability": 0.3}},
            "warm_start": FAST,
            "experts": {"training": SLOW, "last_layers": 5, **experts},
        }
    )
    return TrainingJob(
        kind=kind,  # type: ignore[arg-type]
        config=config,
        model=here,
        data=here,
        encoder=here,
        output=here,
        scratch=here,
    )


def phases(kind: str, schedule: str = "staged", **experts: Any) -> list[PhasePlan]:
    return list(phases_of(training(kind, schedule, **experts)))


def told(plan: PhasePlan) -> tuple[Any, ...]:
    return (plan.name, plan.prompt, plan.lora, plan.projector, plan.optimisation.steps, plan.last_layers)


def test_staged_trains_the_adapter_on_text_then_the_projector_on_ids() -> None:
    first, second = phases("general")
    assert told(first) == ("lora", "text", True, False, 50, None)
    assert told(second) == ("projector", "id", False, True, 20, None)
    assert (set(first.schedules), set(second.schedules)) == ({"lora"}, {"projector"})
    assert first.reasoning_probability == second.reasoning_probability == 0.3


def test_joint_trains_both_at_once_each_at_its_own_rate() -> None:
    (only,) = phases("general", "joint")
    assert told(only) == ("joint", "id", True, True, 50, None)
    for step in (0, 3, 5, 49):
        rates = {group: schedule.at(step, 50) for group, schedule in only.schedules.items()}
        assert rates["projector"] == pytest.approx(10 * rates["lora"])
    assert only.schedules["lora"].peak == 1e-4


@pytest.mark.parametrize("schedule", ["staged", "joint"])
def test_the_warm_start_sees_no_reasons(schedule: str) -> None:
    found = phases("warm_start", schedule)
    assert [told(plan) for plan in found] == [
        ("lora", "text", True, False, 20, None),
        ("projector", "id", False, True, 20, None),
    ]
    assert {plan.reasoning_probability for plan in found} == {0.0}


@pytest.mark.parametrize("prompt", ["id", "text"])
def test_an_expert_trains_its_last_layers_only(prompt: str) -> None:
    (only,) = phases("expert", prompt=prompt)
    assert told(only) == ("expert", prompt, True, False, 50, 5)
    assert only.reasoning_probability == 0.3


def test_a_worker_tells_the_run_that_the_disk_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.worker import train

    def full(job: TrainingJob) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "job.json").write_text(training("general", here=tmp_path).model_dump_json())
    monkeypatch.setattr("sys.argv", ["train", str(tmp_path / "job.json")])
    monkeypatch.setattr(train, "run_job", full)
    assert train.main() == 2
    told = json.loads((tmp_path / FAILURE).read_text())
    assert told["type"] == "StoreError"
    assert told["args"][0].startswith(f"stage general could not be written below {tmp_path} (No space left")
