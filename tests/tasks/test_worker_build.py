"""What a training starts from: rows, reflections, offset, the adapter it continues. No DeepSpeed here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from storage.language_model import save_trained
from storage.schemas import REFLECTIONS
from storage.tables import read_table
from tasks.worker import train
from tasks.worker.build import Workbench, is_trainable, model_state, open_workbench
from tasks.worker.job import FAILURE, TrainingJob
from tests.tiny_model import one_thread, randomise_lora, write_tiny_model
from tests.tiny_world import tiny_world, write_world
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ModelError, ThinkRecError, TrainingError
from thinkrec_core.recllm.scoring import score_examples

__all__ = ["one_thread"]

WORLD = tiny_world()
TRAIN, VALID = WORLD.samples["train"], WORLD.samples["valid"]
MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Jobs on the tiny model and world; sections of the configuration by name."""
    model = write_tiny_model(tmp_path / "model")
    folders = write_world(tmp_path, WORLD)

    def job(kind: str = "general", start_from: Path | None = None, cluster: int | None = None, **config: Any) -> Any:
        llm = {"model": str(model), "dtype": "fp32", **config.pop("llm", {})}
        (tmp_path / "scratch").mkdir(exist_ok=True)
        return TrainingJob(
            kind=kind,  # type: ignore[arg-type]
            config=ThinkRecConfig.model_validate({"llm": llm, **config}),
            model=model,
            data=folders["data"],
            encoder=folders["encoder"],
            reflections=None if kind == "warm_start" else folders["reflections"],
            start_from=start_from,
            clusters=None if cluster is None else folders["clusters"],
            cluster=cluster,
            output=tmp_path / "output",
            scratch=tmp_path / "scratch",
        )

    return job


def text_scores(bench: Workbench) -> np.ndarray:
    examples = [bench.make(row, "recommendation", "text") for row in range(len(TRAIN))]
    return score_examples(bench.model, examples, bench.pad_id, 16)


def test_only_accepted_reflections_are_reasons(make_job: MakeJob) -> None:
    job = make_job()
    assert job.reflections is not None
    table = read_table(job.reflections / "reflections.parquet", REFLECTIONS).to_pydict()
    bench = open_workbench(job)
    accepted = [row for row, taken in zip(table["row"], table["accepted"], strict=True) if taken]
    assert 0 < len(accepted) < len(table["row"])
    assert bench.reasoning_rows == accepted
    assert bench.recommendation_rows == list(range(len(TRAIN)))
    assert len(bench.make(accepted[0], "reasoning", "id").answer.ids) > 3
    assert len(bench.make(accepted[0], "recommendation", "id").answer.ids) == 1


def test_cut_traces_are_counted(make_job: MakeJob) -> None:
    whole, cut = (open_workbench(make_job(reflections={"max_trace_tokens": limit})) for limit in (409, 8))
    assert (whole.cut_traces, cut.cut_traces) == (0, len(cut.reasoning_rows))


@pytest.mark.parametrize("kind", ["general", "warm_start", "expert"])
def test_each_kind_reads_its_own_number_of_train_rows(make_job: MakeJob, kind: str) -> None:
    wanted = {"general": 20, "warm_start": 15, "expert": 10}
    config = {
        "training": {"train_rows": 20},
        "warm_start": {"train_rows": 15},
        "experts": {"training": {"train_rows": 10}},
    }
    rows = open_workbench(make_job(kind, **config)).recommendation_rows
    assert len(set(rows)) == wanted[kind]
    assert rows == sorted(rows)
    assert rows == open_workbench(make_job(kind, **config)).recommendation_rows
    assert rows != open_workbench(make_job(kind, seed=8, **config)).recommendation_rows


def test_an_expert_sees_its_own_users_only(make_job: MakeJob) -> None:
    # In the tiny world cluster 1 is the users with an odd number.
    bench = open_workbench(make_job("expert", cluster=1))
    rows = np.flatnonzero(TRAIN.user_idx % 2 == 1)
    assert bench.recommendation_rows == rows.tolist()
    assert 0 < len(bench.reasoning_rows) < 8
    assert set(bench.reasoning_rows) <= set(rows)
    valid = bench.valid("id")
    assert {example.user % 2 for example in valid} == {1}
    assert len(valid) == int((VALID.user_idx % 2 == 1).sum())


def test_a_cluster_without_train_rows_is_refused(make_job: MakeJob) -> None:
    with pytest.raises(TrainingError, match="cluster 5 has no train rows"):
        open_workbench(make_job("expert", cluster=5))


def test_the_offset_centres_the_untrained_scores(make_job: MakeJob) -> None:
    # All sixty train rows are in the sample of the offset.
    scaled = {"score_scale": 0.5}
    assert float(text_scores(open_workbench(make_job(llm=scaled))).mean()) == pytest.approx(0, abs=1e-4)
    plain = open_workbench(make_job(llm={**scaled, "logit_offset": False}))
    assert plain.settings["score"]["offset"] == 0
    assert abs(float(text_scores(plain).mean())) > 0.01


def test_the_prior_is_the_encoders_logit(make_job: MakeJob) -> None:
    plain, prior = (open_workbench(make_job(training={"prior": name})) for name in ("none", "encoder"))
    np.testing.assert_allclose(text_scores(prior) - text_scores(plain), TRAIN.encoder_logit, atol=1e-5)


def test_a_training_continues_adapter_projector_and_score(make_job: MakeJob, tmp_path: Path) -> None:
    first = open_workbench(make_job())
    randomise_lora(first.model.lm, seed=3)
    with torch.no_grad():
        first.model.projector.outer.bias += 1.0
    first.settings["score"]["offset"] = 0.125
    save_trained(tmp_path / "first", first.model.lm, first.model.projector, first.settings)  # type: ignore[arg-type]
    second = open_workbench(make_job("expert", start_from=tmp_path / "first", cluster=0))
    one, two = model_state(first.model), model_state(second.model)
    assert one.keys() == two.keys()
    assert all(is_trainable(name) and torch.equal(value, two[name]) for name, value in one.items())
    assert second.model.options.offset == 0.125
    assert second.settings == json.loads((tmp_path / "first" / "recllm.json").read_text())


@pytest.mark.parametrize("other", [{"lora": {"rank": 2}}, {"lora": {"target_modules": ("q_proj",)}}])
def test_an_adapter_of_another_shape_is_told_in_one_line(make_job: MakeJob, tmp_path: Path, other: Any) -> None:
    first = open_workbench(make_job())
    save_trained(tmp_path / "first", first.model.lm, first.model.projector, first.settings)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"same base model, with the same llm\.lora"):
        open_workbench(make_job("expert", start_from=tmp_path / "first", cluster=0, llm=other))


def without_weights(job: TrainingJob) -> None:
    (job.model / "model.safetensors").unlink()


def with_a_nan_vector(job: TrainingJob) -> None:
    tables = load_file(job.encoder / "vectors.safetensors")
    tables["item_vectors"][3, 1] = np.nan
    save_file(tables, job.encoder / "vectors.safetensors")


@pytest.mark.parametrize(
    ("spoil", "kind", "found"),
    [
        (without_weights, "ModelError", "base model folder {model}"),
        (with_a_nan_vector, "DataError", "encoder item_vectors of index 3 is not finite"),
    ],
)
def test_a_users_mistake_ends_with_code_2_and_is_told(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[TrainingJob], None], kind: str, found: str
) -> None:
    job = make_job()
    spoil(job)
    spec = job.scratch / "job.json"
    spec.write_text(job.model_dump_json())
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")  # and put back afterwards: the worker fills in what is missing
        monkeypatch.delenv(name)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr("sys.argv", ["train", str(spec)])
    assert train.main() == 2
    told = json.loads((job.scratch / FAILURE).read_text())
    assert told["type"] == kind
    message = str(ThinkRecError(*told["args"]))
    assert found.format(model=job.model) in message
    assert "\n" not in message
    assert not job.output.exists()
