"""The ML-1M study: its plan, the configuration of each run, and the aggregates that it reports."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gpu.table import table
from benchmarks.ml1m.figures import figures
from benchmarks.ml1m.study import CPU, GPU, Run, configuration, plan
from benchmarks.ml1m.train import experts_of
from benchmarks.ml1m.verdict import details
from thinkrec_core.encoders.content import item_content
from thinkrec_core.recllm.records import Samples

CONTENT = item_content([f"Title {item} ({1970 + item})" for item in range(1, 31)], ["Drama"] * 30)


def samples(rows: int, seed: int) -> Samples:
    draw = np.random.default_rng(seed)
    user, item = draw.integers(1, 21, rows), draw.integers(1, 31, rows)
    logit = draw.normal(size=rows)
    return Samples(
        user_idx=user,
        item_idx=item,
        label=(draw.random(rows) < 1 / (1 + np.exp(-2 * logit))).astype(np.int64),
        history_offsets=np.zeros(rows + 1, np.int64),
        history_items=np.zeros(0, np.int64),
        history_labels=np.zeros(0, np.int64),
        encoder_logit=logit,
    )


def test_every_run_has_a_name_of_its_own_and_a_valid_configuration() -> None:
    runs = plan()
    assert len({run.name for run in runs}) == len(runs)
    for run in runs:
        for budget in (GPU, CPU) if run.prior != "stacker" else ():
            config = configuration(run, budget)
            assert config.seed == run.seed
            assert config.data.history == run.protocol
            assert config.training.prior == run.prior


def test_the_plan_answers_the_main_question_first_and_trains_general_adapters_before_their_experts() -> None:
    runs = plan()
    assert [run.protocol for run in runs[:2]] == ["liked", "labelled"]
    assert all(run.seed == 0 for run in runs[:12])
    for place, run in enumerate(runs):
        if experts_of(run):
            assert run.general in runs[:place], run.name


def test_published_rungs_learn_from_labels_alone() -> None:
    for rung, schedule in (("tallrec", "text"), ("collm", "staged")):
        config = configuration(Run("liked", rung, "none", 0), GPU)  # type: ignore[arg-type]
        assert config.training.schedule == schedule
        assert (config.training.objective.theta, config.training.objective.gamma) == (1.0, 0.0)
    staged = configuration(Run("liked", "collm", "none", 0), GPU).training
    assert staged.steps + staged.projector.steps == GPU.steps


def test_an_llm_that_knows_something_loses_by_shuffling_and_noise_does_not() -> None:
    train, test = samples(300, 0), samples(2000, 1)
    warm = np.ones(len(test), bool)
    draw = np.random.default_rng(2)
    telling = (2.0 * test.label - 1) + draw.normal(size=len(test))
    knows = figures(train, test, CONTENT, warm, telling, with_prior=True)
    assert knows["shuffled_loss_ci"][0] > 0
    assert knows["rungs"]["model"]["versus_floor"]["auc"]["ci"][0] > 0
    noise = figures(train, test, CONTENT, warm, draw.normal(size=len(test)), with_prior=True)
    assert noise["shuffled_loss_ci"][0] < 0 < noise["shuffled_loss_ci"][1] + 0.02
    assert noise["llm_std_ratio"] == pytest.approx(1.0, abs=0.1)
    assert figures(train, test, CONTENT, warm, telling, with_prior=False)["shuffled_loss_ci"] is None


def test_the_table_shows_floors_first_and_means_over_seeds() -> None:
    train, test = samples(300, 0), samples(500, 1)
    results = []
    for seed in (0, 1):
        llm = np.random.default_rng(seed).normal(size=len(test))
        found = figures(train, test, CONTENT, np.ones(len(test), bool), llm, with_prior=True)
        results.append({"run": Run("liked", "thinkrec_no_think", "encoder", seed).describe(), **found})
    lines = table(results).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["bias (floor)", "encoder (floor)", "thinkrec_no_think"]
    mean = np.mean([result["rungs"]["model"]["auc"] for result in results])
    assert f"{mean:.4f}" in lines[-1]


def test_the_table_shows_what_a_run_above_the_stacker_is_compared_with() -> None:
    test = samples(500, 1)
    warm, prior = np.ones(len(test), bool), test.encoder_logit
    llm = np.random.default_rng(3).normal(size=len(test))
    rungs = {
        "bias": 0.5 * prior,
        "floor": prior,
        "net": prior,
        "llm": llm,
        "floor_and_net": prior,
        "model": prior + llm,
    }
    found = details(test.user_idx, test.label, warm, rungs, prior, llm) | {"llm_std_ratio": 1.0}
    lines = table([{"run": Run("liked", "thinkrec_no_think", "stacker", 0).describe(), **found}]).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == [
        "bias (floor)",
        "stacker (floor)",
        "net on the soft tokens' inputs",
        "that net",
        "thinkrec_no_think",
    ]
    assert f"{found['rungs']['model']['auc']:.4f}" in lines[-1]
