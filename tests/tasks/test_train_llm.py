"""The training stages around their worker: keys, the worker's records, its errors. The worker itself is a few lines here."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from storage.rec_data import trained_clusters
from storage.schemas import CLUSTERS
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import write_table
from storage.tracking import NullTracker, StageTracker
from tasks import train_llm
from tasks.stage import RunContext
from tasks.view import View
from tasks.worker.job import EVENTS, TrainingJob
from tests.tiny_model import write_tiny_model
from thinkrec_core.config.llm import LLMConfig
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ModelError, StoreError, TrainingError

STEP = {"phase": "lora", "step": 0, "kind": "reasoning", "loss": 2.0, "bce": 1.0, "ce": 3.0, "learning_rate": 0.1}
VALID = {"phase": "lora", "step": 1, "valid": {"auc": 0.6, "uauc": None, "score": 0.25}}
WORKER = f"""
import json, pathlib, sys
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
scratch, output = pathlib.Path(job["scratch"]), pathlib.Path(job["output"])
(scratch / "{EVENTS}").write_text({json.dumps(STEP) + chr(10)!r})
training = {{"best_score": 0.5, "best_step": 1, "train_rows": 3, "kind": job["kind"], "cluster": job["cluster"]}}
(output / "training.json").write_text(json.dumps(training))
"""


def write_clusters(folder: Path, clusters: list[int], cosines: Sequence[float] = (1.0, 0.0)) -> None:
    users = len(clusters)
    columns = {"user_idx": range(1, users + 1), "train_rows": [9] * users, "cluster": clusters}
    write_table(folder / "clusters.parquet", columns, CLUSTERS)
    save_file({"cosines": np.tile(cosines, (users + 1, 1))}, folder / "centroids.safetensors")


class Stages:
    """The training stages on empty inputs, with `script` in the place of the worker."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.store = root, ArtifactStore(root / "store")
        self.model = write_tiny_model(root / "model")
        self.script = WORKER
        monkeypatch.setattr(train_llm, "POLL_SECONDS", 0.02)
        monkeypatch.setattr(train_llm, "_command", lambda job, spec: [sys.executable, "-c", self.script, str(spec)])
        names = ("data", "encoder", "reflections", "general", "clusters")
        self.inputs = {name: self._publish(name) for name in names}

    def _publish(self, stage: str) -> ArtifactRef:
        with self.store.locked(stage, "k"):
            draft = self.store.draft(stage, "k")
            (draft.path / "samples_train.parquet").write_bytes(stage.encode())
            if stage == "clusters":
                write_clusters(draft.path, [0, 0, 1, -1])
            return self.store.publish(draft, stage, "k", {})

    def run(self, stage: str, model: Path | None = None, **config: Any) -> tuple[str, Path]:
        """(ran or cached, folder of the artifact)."""
        values = {**config, "llm": {"model": str(model or self.model), **config.get("llm", {})}}
        context = RunContext(ThinkRecConfig.model_validate(values), self.store, NullTracker(), View())
        given = self.inputs
        if stage == "general":
            result = train_llm.train_general.fn(context, given["data"], given["encoder"], given["reflections"])
        elif stage == "warm_start":
            result = train_llm.train_warm_start.fn(context, given["data"], given["encoder"])
        else:
            result = train_llm.train_expert.fn(context, *given.values(), index=int(stage.removeprefix("expert_")))
        ref = result if isinstance(result, ArtifactRef) else result.data
        return context.results[stage].status, self.store.path(ref)

    def other_clusters(self, clusters: list[int], cosines: Sequence[float] = (1.0, 0.0)) -> None:
        """Experts are of these clusters from now on."""
        key = "_".join(map(str, [*clusters, *cosines]))
        with self.store.locked("clusters", key):
            draft = self.store.draft("clusters", key)
            write_clusters(draft.path, clusters, cosines)
            self.inputs["clusters"] = self.store.publish(draft, "clusters", key, {})


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    return Stages(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("stage", "kind", "cluster"),
    [("general", "general", None), ("warm_start", "warm_start", None), ("expert_1", "expert", 1)],
)
def test_a_stage_publishes_what_its_worker_wrote_once(
    stages: Stages, stage: str, kind: str, cluster: int | None
) -> None:
    status, folder = stages.run(stage)
    written = json.loads((folder / "training.json").read_text())
    assert (status, written["kind"], written["cluster"]) == ("ran", kind, cluster)
    assert stages.run(stage) == ("cached", folder)


TRAINED_ANEW = {
    "seed": {"seed": 8},
    "prompt": {"llm": {"keywords": "none"}},
    "history": {"data": {"history": "liked"}},
    "rate": {"training": {"learning_rate": 2e-4}},
    "projector rate": {"training": {"projector": {"learning_rate": 2e-4}}},
    "traces": {"reflections": {"max_trace_tokens": 50}},
}
LEFT_ALONE = {
    "rungs": {"evaluation": {"bootstrap": 50}},
    "teacher": {"teacher": {"temperature": 0.1}},
    "encoder": {"encoder": {"epochs": 3}},
    "experts": {"experts": {"last_layers": 2}},
}


def test_a_general_training_depends_on_what_it_uses_and_on_nothing_else(stages: Stages) -> None:
    stages.run("general")
    assert {name: stages.run("general", **change)[0] for name, change in TRAINED_ANEW.items()} == dict.fromkeys(
        TRAINED_ANEW, "ran"
    )
    assert {name: stages.run("general", **change)[0] for name, change in LEFT_ALONE.items()} == dict.fromkeys(
        LEFT_ALONE, "cached"
    )


def test_an_expert_depends_on_its_own_training_not_on_the_general_ones(stages: Stages) -> None:
    stages.run("expert_0")
    assert stages.run("expert_0", training={"learning_rate": 2e-4, "projector": {"steps": 7}})[0] == "cached"
    assert stages.run("expert_0", experts={"last_layers": 2})[0] == "ran"
    assert stages.run("expert_0", experts={"training": {"learning_rate": 2e-4}})[0] == "ran"
    assert stages.run("expert_1")[0] == "ran"


def test_the_same_users_have_one_expert_whatever_clusters_stand_beside_theirs(stages: Stages) -> None:
    _, first = stages.run("expert_0")
    stages.other_clusters([1, 1, 0, 0])  # users 1 and 2 again, as cluster 1
    assert stages.run("expert_1") == ("cached", first)
    assert stages.run("expert_0")[0] == "ran"
    stages.other_clusters([0, 1, 2, 2])
    assert [stages.run(f"expert_{index}")[0] for index in range(3)] == ["ran", "ran", "cached"]


def test_a_training_ends_when_one_beside_it_failed(stages: Stages) -> None:
    stages.script = "import time; time.sleep(60)"
    context = RunContext(ThinkRecConfig(llm=LLMConfig(model=str(stages.model))), stages.store, NullTracker(), View())
    stop = Event()
    stop.set()
    with pytest.raises(TrainingError, match="training of expert_1 was stopped"):
        train_llm.train_expert.fn(replace(context, stop=stop), *stages.inputs.values(), index=1)


def test_the_base_model_counts_by_its_content(stages: Stages) -> None:
    stages.run("general")
    assert stages.run("general", model=write_tiny_model(stages.root / "moved"))[0] == "cached"
    assert stages.run("general", model=write_tiny_model(stages.root / "other", seed=1))[0] == "ran"


def test_a_mistake_told_by_the_worker_is_raised_as_it_is(stages: Stages) -> None:
    told = {"type": "ModelError", "args": ["adapter x is empty", "weights", "train anew"]}
    stages.script = (
        "import json, pathlib, sys\n"
        "scratch = pathlib.Path(json.loads(pathlib.Path(sys.argv[1]).read_text())['scratch'])\n"
        f"(scratch / 'failure.json').write_text({json.dumps(told)!r})\n"
        "sys.exit(2)"
    )
    with pytest.raises(ModelError) as caught:
        stages.run("general")
    assert str(caught.value) == "adapter x is empty; expected weights; train anew"
    # A failed training leaves no artifact, and the next one does not read the old failure.
    stages.script = WORKER
    assert stages.run("general")[0] == "ran"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("raise SystemExit('first\\n\\nlast words\\n')", "exit code 1 (last words); run again: it resumes"),
        ("import os; os.kill(os.getpid(), 9)", "exit code 137 (no output); run again"),
        ("raise SystemExit('CUDA out of memory')", "lower training.batch_size"),
    ],
)
def test_a_worker_that_stops_without_a_word_is_told_in_one_line(stages: Stages, script: str, says: str) -> None:
    stages.script = script
    with pytest.raises(TrainingError) as caught:
        stages.run("general")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_worker_that_a_full_disk_stopped_and_silenced_is_told_as_that(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    stages.script = "raise SystemExit(1)"
    monkeypatch.setattr(train_llm, "write_whole", full)
    with pytest.raises(StoreError, match=r"^stage general could not be written .*\(No space left on device\)"):
        stages.run("general")


class Points(StageTracker):
    """Keeps what would be logged."""

    def __init__(self) -> None:
        super().__init__(None, "")
        self.points: list[tuple[str, float, int]] = []

    def metric_batch(self, points: Sequence[tuple[str, float, int]]) -> None:
        self.points += points


def at(step: int, speed: float = 0.5) -> str:
    return json.dumps({**STEP, "step": step, "speed": {"samples_per_second": speed}}) + "\n"


def test_records_become_points_by_phase_and_kind(tmp_path: Path) -> None:
    tracker = Points()
    tail = train_llm._Tail(tmp_path / EVENTS, tracker)
    tail.read()  # no file yet
    (tmp_path / EVENTS).write_text(json.dumps(STEP) + "\n" + json.dumps(VALID) + "\n")
    tail.read()
    assert sorted(tracker.points) == [
        ("lora/reasoning_bce", 1.0, 0),
        ("lora/reasoning_ce", 3.0, 0),
        ("lora/reasoning_learning_rate", 0.1, 0),
        ("lora/reasoning_loss", 2.0, 0),
        ("lora/valid_auc", 0.6, 1),
        ("lora/valid_score", 0.25, 1),
    ]
    assert (tail.steps, tail.note) == (1, "valid 0.2500")


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    tracker = Points()
    tail = train_llm._Tail(tmp_path / EVENTS, tracker)
    whole = at(0) + at(1)
    for end in range(len(whole) + 1):
        (tmp_path / EVENTS).open("a").write(whole[end - 1 : end])
        tail.read()
    assert tail.steps == 2
    assert [step for name, _, step in tracker.points if name.endswith("loss")] == [0, 1]


@pytest.mark.parametrize("polled", [False, True])
def test_a_resumed_worker_that_shortens_the_file_is_followed(tmp_path: Path, polled: bool) -> None:
    from tasks.worker.train import _rewind

    tracker, events = Points(), tmp_path / EVENTS
    tail = train_llm._Tail(events, tracker)
    # Killed after step 4, in the middle of a record; the last checkpoint was before step 2.
    events.write_text("".join(map(at, range(5))) + at(5)[:20])
    tail.read()
    _rewind(events, "lora", 2)
    assert events.read_text() == at(0) + at(1)
    for step in range(2, 9):
        with events.open("a") as handle:
            handle.write(at(step, speed=1 / 3))  # the same steps at another speed: other lengths of line
        if polled:
            tail.read()
    tail.read()
    assert tail.steps == 9
    assert [step for name, _, step in tracker.points if name.endswith("loss")] == list(range(9))


def test_validation_of_the_checkpointed_step_survives_a_rewind(tmp_path: Path) -> None:
    from tasks.worker.train import _rewind

    events = tmp_path / EVENTS
    other = json.dumps({**STEP, "phase": "first", "step": 99}) + "\n"
    valid = [json.dumps({**VALID, "step": step}) + "\n" for step in (2, 4)]
    events.write_text(other + at(0) + at(1) + valid[0] + at(2) + at(3) + valid[1])
    _rewind(events, "lora", 2)
    assert events.read_text() == other + at(0) + at(1) + valid[0]


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_command_starts_one_process_per_rank(tmp_path: Path, ranks: int) -> None:
    config = ThinkRecConfig.model_validate(
        {"training": {"engine": {"world_size": ranks}, "batch_size": 2}, "warm_start": {"batch_size": 2}}
    )
    folders: dict[str, Any] = dict.fromkeys(("model", "data", "encoder", "output", "scratch"), tmp_path)
    command = train_llm._command(TrainingJob(kind="general", config=config, **folders), tmp_path / "job.json")
    assert command[0] == sys.executable
    assert command[-3:] == ["-m", "tasks.worker.train", str(tmp_path / "job.json")]
    assert ("--nproc-per-node=2" in command) == (ranks == 2)


def test_the_workers_environment_is_offline_and_finds_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    env = train_llm._env()
    root, *others = env["PYTHONPATH"].split(os.pathsep)
    assert (Path(root) / "tasks" / "worker" / "train.py").is_file()
    assert others == ["/elsewhere"]
    assert (env["HF_HUB_OFFLINE"], env["DO_NOT_TRACK"]) == ("1", "1")
    assert int(env["MASTER_PORT"]) > 0


def test_other_cosines_train_no_expert_again_and_other_clusters_do(stages: Stages) -> None:
    assert stages.run("expert_0")[0] == "ran"
    stages.other_clusters([0, 0, 1, -1], (0.25, 0.75))
    status, folder = stages.run("expert_0")
    assert status == "cached"
    assert json.loads((folder / "manifest.json").read_text())["parents"]["clusters"]["stage"] == "clusters"
    stages.other_clusters([1, 0, 1, -1])
    assert stages.run("expert_0")[0] == "ran"


def test_clusters_with_enough_rows_get_experts(stages: Stages) -> None:
    with stages.store.locked("clusters", "other"):
        draft = stages.store.draft("clusters", "other")
        (draft.path / "clusters.json").write_text(json.dumps({"trained": [True, False, True]}))
        ref = stages.store.publish(draft, "clusters", "other", {})
    assert trained_clusters(stages.store.path(ref)) == [0, 2]
