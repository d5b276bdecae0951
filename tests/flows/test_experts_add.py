"""`thinkrec experts add` as a user calls it: a run, users that come later, one more expert, and what reads the new run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmarks.kill.world import ScriptedTeacher
from storage.file_digests import file_digest
from storage.rec_data import load_routes
from storage.synthetic_folder import write_synthetic
from tests.tiny_model import write_tiny_model
from thinkrec_core.config.experts import RouterConfig
from thinkrec_core.synthetic import SyntheticSpec

pytestmark = pytest.mark.slow

USERS, NEWCOMERS = 36, 9
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Shop:
    """A data set that grew from 27 to 36 users between a run and the addition of an expert."""

    folder: Path
    before: dict[str, Any]
    """The run's summary."""
    files: dict[str, str]
    """sha256 of the files of its adapters, before the addition."""
    after: dict[str, Any]
    """The addition's summary."""
    data: pd.DataFrame
    """All interactions."""

    def call(self, *arguments: str) -> dict[str, Any]:
        return call(self.folder, *arguments)

    def predictions(self, summary: dict[str, Any]) -> pd.DataFrame:
        return pq.read_table(summary["predictions"]).to_pandas()

    def newcomers(self) -> list[str]:
        known = set(pq.read_table(artifact(self, self.before, "data") / "interactions.parquet").to_pandas()["user_id"])
        return sorted(set(self.data["user_id"].astype(str)) - known)


def call(folder: Path, *arguments: str) -> dict[str, Any]:
    """What `thinkrec ARGUMENTS --json` says in `folder`, whose store is below it."""
    command = [sys.executable, "-m", "flows.cli", *arguments, "--json"]
    environment = {**os.environ, "THINKREC_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def artifact(shop: Shop, summary: dict[str, Any], stage: str) -> Path:
    ref = summary["artifacts"][stage]
    return shop.folder / "home" / "artifacts" / ref["stage"] / ref["key"]


def adapter_files(summary: dict[str, Any]) -> dict[str, str]:
    return {
        f"{name}/{path.name}": file_digest(path)
        for name, folder in summary["adapters"].items()
        for path in sorted(Path(folder).iterdir())
    }


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    write_synthetic(SyntheticSpec(users=USERS, items=40, rows=360, clusters=2), folder / "all")
    everything = pq.read_table(folder / "all" / "interactions.parquet").to_pandas()
    new = everything["user_id"] > USERS - NEWCOMERS
    for name, rows in (("old", everything[~new]), ("new", everything[new])):
        (folder / name).mkdir()
        rows.to_parquet(folder / name / "interactions.parquet")
        (folder / name / "items.parquet").write_bytes((folder / "all" / "items.parquet").read_bytes())
    model = write_tiny_model(folder / "model")
    call(folder, "data", "append", "old", "--to", "data-set")
    with ScriptedTeacher() as teacher:
        fields = {
            "llm.model": model,
            "data.source": folder / "data-set",
            "teacher.base_url": teacher.url,
            "evaluation.test_rows": "null",
            "experts.router.temperature": "0.3",
        }
        sets = [word for name, value in fields.items() for word in ("--set", f"{name}={value}")]
        before = call(folder, "run", "--preset", "kill", *sets)
    files = adapter_files(before)
    call(folder, "data", "append", "new", "--to", "data-set")
    after = call(folder, "experts", "add", "--source", str(folder / "data-set"))
    return Shop(folder, before, files, after, everything)


def test_the_adapters_that_were_there_are_those_of_the_run(shop: Shop) -> None:
    assert shop.after["base"] == shop.before["run"]
    assert len(shop.after["adapters"]) == len(shop.before["adapters"]) + 1
    assert {name: shop.after["adapters"][name] for name in shop.before["adapters"]} == shop.before["adapters"]
    now = adapter_files(shop.after)
    assert {name: now[name] for name in shop.files} == shop.files
    for name in ("general", "expert_0", "expert_1"):
        assert shop.after["artifacts"][name] == shop.before["artifacts"][name]
    own = {digest for name, digest in now.items() if name.startswith("expert_2/adapter_model")}
    assert own
    assert not own & set(shop.files.values())


def test_the_router_sends_newcomers_to_their_expert_and_nobody_else_to_another(shop: Shop) -> None:
    facts = shop.after["newcomers"]
    assert (facts["cluster"], facts["users"], facts["trained"]) == (2, NEWCOMERS, True)
    before, after = (
        pq.read_table(artifact(shop, summary, "clusters") / "clusters.parquet").to_pandas()
        for summary in (shop.before, shop.after)
    )
    users, new = len(before), after[len(before) :]
    assert after["cluster"][:users].tolist() == before["cluster"].tolist()
    assert (len(new), set(new["cluster"])) == (NEWCOMERS, {2})
    router = RouterConfig.model_validate(shop.after["config"]["experts"]["router"])
    old, now = (load_routes(artifact(shop, run, "clusters"), router) for run in (shop.before, shop.after))
    assert now.route[: users + 1].tolist() == old.route.tolist()
    assert now.gates[: users + 1].tolist() == [[*gates, 0.0] for gates in old.gates.tolist()]
    assert (now.gates[users + 1 :].argmax(axis=1) == 3).sum() > NEWCOMERS / 2


def test_the_others_keep_their_scores_and_newcomers_are_scored_by_their_expert(shop: Shop) -> None:
    names = ["user_id", "item_id", "score_encoder", "score_thinkrec_general_llm", "score_thinkrec_experts_llm"]
    before, after = (shop.predictions(summary)[names] for summary in (shop.before, shop.after))
    both = before.merge(after, on=["user_id", "item_id"], suffixes=("", "_after"))
    assert len(both) == len(before) > 10
    for name in names[2:]:
        assert both[f"{name}_after"].to_numpy() == pytest.approx(both[name].to_numpy(), abs=2e-5)
    strangers = after[after["user_id"].isin(shop.newcomers())]
    assert len(strangers) >= 3
    assert (strangers["score_thinkrec_general_llm"] != strangers["score_thinkrec_experts_llm"]).mean() > 0.5


def test_a_bundle_of_the_addition_recommends_to_newcomers_and_scores_as_its_evaluation(shop: Shop) -> None:
    bundle = shop.folder / "bundle"
    assert shop.call("bundle", "export", shop.after["run"], "--out", str(bundle))["run"] == shop.after["run"]
    newcomer = shop.newcomers()[0]
    told = shop.call("recommend", "--user", newcomer, "--top-k", "3", "--bundle", str(bundle))
    assert len(told["recommendations"]) == 3
    assert list(told["gates"]) == ["general", "expert_0", "expert_1", "expert_2"]
    assert sum(told["gates"].values()) == pytest.approx(1, abs=1e-6)

    columns = ["user_id", "item_id", "history_item_idx", "history_label"]
    known = shop.predictions(shop.after)
    samples = pq.read_table(artifact(shop, shop.after, "data") / "samples_test.parquet").to_pandas()
    rows = known.merge(samples[columns], on=["user_id", "item_id"])
    assert len(rows) == len(known)
    rows[columns].to_parquet(shop.folder / "rows.parquet")
    scored = shop.folder / "scores.parquet"
    shop.call("score", str(shop.folder / "rows.parquet"), "--out", str(scored), "--bundle", str(bundle))
    scores = pq.read_table(scored).to_pandas()
    assert scores["score"].to_numpy() == pytest.approx(rows["score_thinkrec_experts"].to_numpy(), abs=1e-4)
    assert scores["encoder_score"].to_numpy() == pytest.approx(rows["score_encoder"].to_numpy(), abs=1e-4)


def test_the_newest_run_is_the_addition_for_every_command(shop: Shop) -> None:
    newcomer = shop.newcomers()[-1]
    told = shop.call("experts", "export", "--user", newcomer, "--out", str(shop.folder / "own"))
    assert told["run"] == shop.after["run"]
    assert (shop.folder / "own" / "adapter" / "adapter_model.safetensors").is_file()
    assert len(shop.call("recommend", "--user", newcomer, "--top-k", "2")["recommendations"]) == 2
    compared = shop.call("compare", shop.before["run"], shop.after["run"], "--common")
    assert compared["rows"] == len(shop.predictions(shop.before))


def test_a_second_call_computes_nothing(shop: Shop) -> None:
    again = shop.call("experts", "add", "--source", str(shop.folder / "data-set"), "--run", shop.before["run"])
    assert again["all_cached"]
    assert again["adapters"] == shop.after["adapters"]
