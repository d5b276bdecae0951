"""The training worker: resume after kill -9, the steps of DeepSpeed, plain PEFT adapters, what each phase may change.

Start-up dominates, so only the training that is killed and the one by DeepSpeed are processes. The other engines, and kills of a
DeepSpeed training, are in test_worker_parity.py (slow).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from storage.language_model import ADAPTER, PROJECTOR, adapter_weights, load_base, load_stacked
from tasks.worker.build import fresh_projector
from tasks.worker.checkpoints import LATEST
from tasks.worker.job import EVENTS, FINISHED, TrainingJob
from tasks.worker.train import run_job
from tests.tiny_model import one_thread, write_tiny_model
from tests.tiny_world import tiny_world, write_world
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.recllm.adapters import add_lora, layer_of

__all__ = ["one_thread"]

ROOT = Path(__file__).resolve().parents[2]
LAYERS, LAST = 4, 2
RATES = {"learning_rate": 5e-3, "min_learning_rate": 1e-3, "warmup_learning_rate": 1e-4, "warmup_steps": 3}
SHORT = {**RATES, "steps": 6, "batch_size": 4, "validate_every": 3}
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
STEPS = 40
"""Of the training that is killed at its first checkpoint: far more than it can take before the signal arrives."""


def config(model: Path, **training: Any) -> ThinkRecConfig:
    values = {**SHORT, "projector": SHORT, "select_by": "log_loss", "prior": "encoder", **training}
    values["objective"] = {"reasoning_probability": 0.4}
    values["engine"] = {"threads": 1, "checkpoint_every": 2, **training.get("engine", {})}
    return ThinkRecConfig.model_validate(
        {
            "llm": {
                "model": str(model),
                "dtype": "fp32",
                "lora": {"rank": 4, "alpha": 8},
                "projector": {"multiplier": 3},
            },
            "training": values,
            "experts": {
                "last_layers": LAST,
                "training": SHORT,
                "prompt": "text" if training.get("schedule") == "text" else "id",
            },
        }
    )


class Runs:
    """Trainings below one folder, on one tiny model and one tiny world."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = write_tiny_model(root / "model", layers=LAYERS)
        self.inputs = write_world(root / "inputs", tiny_world())

    def job(self, name: str, settings: ThinkRecConfig, **changes: Any) -> TrainingJob:
        values: dict[str, Any] = {
            "kind": "general",
            "config": settings,
            "model": self.model,
            "data": self.inputs["data"],
            "encoder": self.inputs["encoder"],
            "reflections": self.inputs["reflections"],
            "output": self.root / name / "output",
            "scratch": self.root / name / "scratch",
            **changes,
        }
        job = TrainingJob.model_validate(values)
        job.scratch.mkdir(parents=True, exist_ok=True)
        return job

    def start(self, job: TrainingJob) -> subprocess.Popen[bytes]:
        spec = job.scratch / "job.json"
        spec.write_text(job.model_dump_json())
        env = {name: value for name, value in os.environ.items() if name not in RANKS}
        with (job.scratch / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tasks.worker.train", str(spec)], cwd=ROOT, env=env, stdout=log, stderr=log
            )

    def output(self, name: str) -> Path:
        return self.root / name / "output"

    def scratch(self, name: str) -> Path:
        return self.root / name / "scratch"


def finish(child: subprocess.Popen[bytes], job: TrainingJob) -> None:
    code = child.wait(400)
    assert code == 0, (job.scratch / "log").read_text()[-3000:]


def kill_at_first_checkpoint(child: subprocess.Popen[bytes], scratch: Path) -> None:
    deadline = time.monotonic() + 400
    while not (scratch / "joint" / LATEST).is_file():
        assert child.poll() is None, (scratch / "log").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All trainings of this module: `whole`, `broken` (killed, then run again), `deepspeed` (as `whole`), `staged`, `expert` (from
    `whole`) and `text`; only `deepspeed` is one."""
    made = Runs(tmp_path_factory.mktemp("worker"))
    torch_only = {"backend": "torch"}
    long = {"schedule": "joint", "steps": STEPS, "validate_every": 10, "accumulation": 2}
    joint = config(made.model, **long, engine=torch_only)
    whole, broken = made.job("whole", joint), made.job("broken", joint)
    deepspeed = made.job("deepspeed", config(made.model, **long))
    staged = made.job("staged", config(made.model, schedule="staged", engine=torch_only))
    text = made.job("text", config(made.model, schedule="text", llm_weight="valid", engine=torch_only))
    expert = made.job(
        "expert", joint, kind="expert", start_from=whole.output, clusters=made.inputs["clusters"], cluster=1
    )
    beside = made.start(deepspeed)
    killed = made.start(broken)
    kill_at_first_checkpoint(killed, broken.scratch)
    assert not (broken.scratch / "joint" / FINISHED).exists(), "killed too late to prove anything"
    again = made.start(broken)
    with in_this_process():
        for job in (whole, staged, text, expert):
            run_job(job)
    finish(again, broken)
    finish(beside, deepspeed)
    return made


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """What a worker changes of its process is as before afterwards."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for name in RANKS:
            patch.setenv(name, "0")  # and put back: the worker fills in what is missing
            patch.delenv(name)
        yield
    torch.set_num_threads(threads)


def lora_and_projector(folder: Path) -> dict[str, torch.Tensor]:
    return adapter_weights(folder / ADAPTER) | load_file(folder / PROJECTOR)


def events(scratch: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (scratch / EVENTS).read_text().splitlines()]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_killed_training_ends_with_the_same_weights(runs: Runs) -> None:
    ended, resumed = lora_and_projector(runs.output("whole")), lora_and_projector(runs.output("broken"))
    for name, value in ended.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-6, rtol=0)
    assert same(ended, resumed)


def test_plain_torch_takes_the_steps_of_deepspeed(runs: Runs) -> None:
    curves = [
        [record["loss"] for record in events(runs.scratch(name)) if "loss" in record] for name in ("deepspeed", "whole")
    ]
    assert len(curves[0]) == STEPS
    torch.testing.assert_close(torch.tensor(curves[1]), torch.tensor(curves[0]), atol=1e-5, rtol=0)


def test_a_text_training_has_no_projector_phase(runs: Runs) -> None:
    assert {record["phase"] for record in events(runs.scratch("text"))} == {"lora"}
    settings = json.loads((runs.output("text") / "recllm.json").read_text())
    fresh = fresh_projector(config(runs.model), settings["slot_input_size"], load_base(runs.model, torch.float32))
    assert same(load_file(runs.output("text") / PROJECTOR), dict(fresh.state_dict()))


def test_the_weight_of_the_llm_is_that_of_the_best_validation(runs: Runs) -> None:
    training = json.loads((runs.output("text") / "training.json").read_text())
    records = {record["step"]: record["valid"] for record in events(runs.scratch("text")) if "valid" in record}
    best = records[training["best_step"]]
    assert best["score"] == training["best_score"] == max(record["score"] for record in records.values())
    settings = json.loads((runs.output("text") / "recllm.json").read_text())
    assert settings["score"]["scale"] == training["llm_weight"] == best["llm_weight"] > 0
    assert len({record["llm_weight"] for record in records.values()}) > 1


def test_a_killed_training_leaves_the_same_artifact(runs: Runs) -> None:
    whole, broken = runs.output("whole"), runs.output("broken")
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert [str(path) for path in files] == [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "losses.jsonl",
        "projector.safetensors",
        "recllm.json",
        "training.json",
    ]
    assert all((whole / path).read_bytes() == (broken / path).read_bytes() for path in files)


def test_every_step_is_recorded_once_and_learning_shows(runs: Runs) -> None:
    for name in ("whole", "broken"):
        records = events(runs.scratch(name))
        steps = [record for record in records if "valid" not in record]
        assert [record["step"] for record in steps] == list(range(STEPS))
        assert [record["step"] for record in records if "valid" in record] == [10, 20, 30, 40]
        assert {record["kind"] for record in steps} == {"recommendation", "reasoning"}
    answer_loss = [record["ce"] for record in steps if record["kind"] == "reasoning"]
    assert sum(answer_loss[-3:]) < sum(answer_loss[:3])
    training = json.loads((runs.output("whole") / "training.json").read_text())
    # Eight of sixteen reflections are accepted; sixty rows are there.
    assert (training["train_rows"], training["reasoning_rows"], training["cut_traces"]) == (60, 8, 0)
    assert (training["dtype"], training["world_size"], training["steps"]) == ("float32", 1, STEPS)
    assert training["best_score"] == max(record["valid"]["score"] for record in records if "valid" in record)


@torch.no_grad()
def test_the_adapter_is_what_plain_peft_loads(runs: Runs) -> None:
    trained = add_lora(load_base(runs.model, torch.float32), 4, 8, 0.05, ("q_proj", "v_proj"), seed=0)
    best = load_file(runs.scratch("whole") / "joint" / "best.safetensors")
    own = {name.removeprefix("lm."): value for name, value in best.items() if name.startswith("lm.")}
    assert not trained.load_state_dict(own, strict=False).unexpected_keys
    loaded = PeftModel.from_pretrained(load_base(runs.model, torch.float32), runs.output("whole") / ADAPTER).eval()
    ids = torch.tensor([[0, 12, 200, 33, 90, 7]])
    assert torch.equal(loaded(ids).logits, trained.eval()(ids).logits)
    assert not torch.equal(loaded(ids).logits, load_base(runs.model, torch.float32)(ids).logits)


def test_the_joint_training_moves_adapter_and_projector(runs: Runs) -> None:
    trained = lora_and_projector(runs.output("whole"))
    assert all(float(value.abs().max()) > 0 for name, value in trained.items() if "lora_B" in name)
    settings = json.loads((runs.output("whole") / "recllm.json").read_text())
    fresh = fresh_projector(config(runs.model), settings["slot_input_size"], load_base(runs.model, torch.float32))
    for name, value in fresh.state_dict().items():
        assert not torch.equal(trained[name], value), name


def test_an_expert_keeps_the_general_lower_layers(runs: Runs) -> None:
    general, expert = (adapter_weights(runs.output(name) / ADAPTER) for name in ("whole", "expert"))
    assert general.keys() == expert.keys()
    for name, value in expert.items():
        assert torch.equal(value, general[name]) == (layer_of(name) < LAYERS - LAST), name
    projectors = [load_file(runs.output(name) / PROJECTOR) for name in ("whole", "expert")]
    assert same(*projectors)
    settings = [(runs.output(name) / "recllm.json").read_text() for name in ("whole", "expert")]
    assert settings[0] == settings[1]
    model, gates = load_stacked(runs.model, runs.output("whole"), [runs.output("expert")])
    assert gates.adapters == 2
    assert model.options.offset == json.loads(settings[0])["score"]["offset"] != 0


def test_the_first_stage_leaves_the_projector_and_the_second_the_adapter(runs: Runs) -> None:
    phases = {name: load_file(runs.scratch("staged") / name / "best.safetensors") for name in ("lora", "projector")}

    def part(phase: str, of: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix("projector."): v for name, v in phases[phase].items() if (of in name.split(".")[0])}

    settings = json.loads((runs.output("staged") / "recllm.json").read_text())
    fresh = fresh_projector(config(runs.model), settings["slot_input_size"], load_base(runs.model, torch.float32))
    assert same(part("lora", "projector"), dict(fresh.state_dict()))
    assert same(part("lora", "lm"), part("projector", "lm"))
    assert any(float(value.abs().max()) > 0 for name, value in part("lora", "lm").items() if "lora_B" in name)
    assert not same(part("projector", "projector"), dict(fresh.state_dict()))
    # The artifact holds the end of both.
    assert same(load_file(runs.output("staged") / PROJECTOR), part("projector", "projector"))
