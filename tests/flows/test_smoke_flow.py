"""The whole pipeline on real data and real weights, in the sizes of the smoke preset."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel

from flows.cli import main
from storage.language_model import load_base, load_stacked
from storage.models import resolve_model
from tests.flows.smoke_scores import as_of, evaluated, told_by_lists, told_by_mlflow, told_by_server


def run(home: Path, *arguments: str) -> dict[str, Any]:
    """The summary of `thinkrec run --preset smoke --json` in an empty folder."""
    command = [sys.executable, "-m", "flows.cli", "run", "--preset", "smoke", "--json", *arguments]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "THINKREC_HOME": str(home), "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=home.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)  # one object and nothing else


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smoke") / "home"


@pytest.fixture(scope="module")
def first(home: Path) -> dict[str, Any]:
    return run(home)


def test_every_stage_runs_and_every_rung_is_scored(first: dict[str, Any]) -> None:
    assert {stage["status"] for stage in first["stages"].values()} == {"ran"}
    assert list(first["stages"])[:5] == ["data", "encoder", "wrong_predictions", "reflections", "general"]
    assert set(first["rungs"]) >= {"popularity", "bias", "encoder", "zero_shot", "thinkrec_general", "thinkrec_experts"}
    assert sum(first["reflections"].values()) == sum(first["teacher"]["rounds"].values()) == 6
    assert (first["teacher"]["completion_tokens"] > 0, first["teacher"]["cost"]) == (True, None)
    table = pq.read_table(first["predictions"])
    assert table.num_rows == first["rows"] >= 32
    general = table.column("score_thinkrec_general").to_pylist()
    assert len(set(general)) > table.num_rows // 2
    assert general != table.column("score_encoder").to_pylist()
    assert "<html" in Path(first["report"]).read_text(encoding="utf-8")


def test_the_general_adapter_is_a_plain_peft_folder(first: dict[str, Any], home: Path) -> None:
    (adapter,) = (home / "artifacts" / "general").glob("*/adapter")
    base = load_base(resolve_model("smollm2-135m").path, torch.float32)
    model = PeftModel.from_pretrained(base, str(adapter))
    assert sum(value.abs().sum() for name, value in model.named_parameters() if "lora_B" in name) > 0


def test_the_adapter_of_a_user_says_what_the_experts_say(first: dict[str, Any], home: Path, tmp_path: Path) -> None:
    ids = sorted(set(pq.read_table(first["predictions"]).column("user_id").to_pylist()))
    command = [sys.executable, "-m", "flows.cli", "experts", "export", "--json", "--user", ids[0], "--out", "user"]
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "THINKREC_HOME": str(home), "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert sum(told["gates"].values()) == pytest.approx(1)

    base = resolve_model("smollm2-135m").path
    adapters = [Path(path).parent for path in first["adapters"].values()]
    model, gates = load_stacked(base, adapters[0], adapters[1:])
    gates.set(torch.tensor([[told["gates"].get(name, 0.0) for name in first["adapters"]]]))
    ids_BT = torch.arange(100, 120)[None]
    own = PeftModel.from_pretrained(load_base(base, torch.float32), str(tmp_path / "user" / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(own(ids_BT).logits, model.causal(ids_BT).logits, atol=1e-4, rtol=1e-4)


def test_the_report_compares_routes_and_parts(first: dict[str, Any]) -> None:
    page = Path(first["report"]).read_text(encoding="utf-8")
    for shown in (
        "Expert with the largest weight",
        "As routed, fused as published",
        "By cluster of the user",
        "Gate entropy",
    ):
        assert shown in page


def test_prefects_history_has_each_stage_of_the_run(first: dict[str, Any], home: Path) -> None:
    with contextlib.closing(sqlite3.connect(home / "prefect" / "prefect.db")) as history:
        found = history.execute("SELECT name, state_type FROM task_run").fetchall()
    stages = {name.rsplit("-", 1)[0]: state for name, state in found}
    assert stages == dict.fromkeys(first["stages"], "COMPLETED")


def test_an_unchanged_rerun_does_nothing(first: dict[str, Any], home: Path) -> None:
    again = run(home)
    assert {stage["status"] for stage in again["stages"].values()} == {"cached"}
    assert again["rungs"] == first["rungs"]
    assert again["predictions"] == first["predictions"]


def test_a_changed_field_reruns_what_depends_on_it_and_nothing_else(first: dict[str, Any], home: Path) -> None:
    changed = run(
        home,
        *("--set", "evaluation.bootstrap=100"),
        *("--set", "evaluation.rungs=[bias,encoder]"),
        *("--set", "evaluation.explanations=0"),
    )
    ran = {name for name, stage in changed["stages"].items() if stage["status"] == "ran"}
    assert ran == {"evaluation", "report"}
    assert set(changed["rungs"]) == {"bias", "encoder"}


def test_a_bundle_scores_as_the_evaluation_did_and_recommends(
    first: dict[str, Any],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("THINKREC_HOME", str(home))
    packed, bundle, rows = tmp_path / "bundle.tar", str(tmp_path / "bundle"), tmp_path / "rows.parquet"
    assert main(["bundle", "export", first["run"], "--out", str(packed)]) == 0
    assert main(["bundle", "import", str(packed), "--out", bundle]) == 0
    data = home / "artifacts" / "data" / first["artifacts"]["data"]["key"]
    known = evaluated(Path(first["predictions"]), data)
    columns = ["user_id", "item_id", "history_item_idx", "history_label"]
    pq.write_table(pa.Table.from_pandas(known[columns]), rows)
    assert main(["score", str(rows), "--out", str(tmp_path / "scores.parquet"), "--bundle", bundle]) == 0
    scores = pq.read_table(tmp_path / "scores.parquet").to_pandas()
    assert len(scores) == first["rows"]
    expected = known["score_thinkrec_experts"]
    np.testing.assert_allclose(scores["score"], expected, atol=1e-4)
    np.testing.assert_allclose(scores["encoder_score"], known["score_encoder"], atol=1e-4)
    np.testing.assert_allclose(told_by_server(Path(bundle), known, data), expected, atol=1e-4)

    capfd.readouterr()
    liked = ["recommend", "--liked", "Fargo; pulp fiction (1994)", "--explain", "--bundle", bundle, "--top-k", "2"]
    assert main([*liked, "--candidates", "4"]) == 0
    told = capfd.readouterr().out
    assert "somebody who likes Fargo (1996), Pulp Fiction (1994); route general" in told
    assert len(re.findall(r"\): (Yes|No)\.", told)) == 2

    # After a result as JSON, nothing more of this process reaches standard output.
    user = known["user_id"][0]
    given = ["--bundle", bundle, "--top-k", "3", "--candidates", "6", "--json"]
    assert main(["recommend", "--user", user, *given]) == 0
    listed = json.loads(capfd.readouterr().out.splitlines()[-1])
    found = listed["recommendations"]
    everything = pq.read_table(data / "interactions.parquet").to_pandas()
    assert not set(everything[everything["user_id"] == user]["item_id"]) & {row["item_id"] for row in found}
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
    assert sum(listed["gates"].values()) == pytest.approx(1)
    # The shared beginning gives the scores of whole prompts.
    again = pa.table({"user_id": [user] * 3, "item_id": [row["item_id"] for row in found]})
    pq.write_table(again, rows)
    assert main(["score", str(rows), "--out", str(tmp_path / "scores.parquet"), "--bundle", bundle]) == 0
    again_scores = pq.read_table(tmp_path / "scores.parquet").column("score").to_numpy()
    np.testing.assert_allclose(again_scores, [row["score"] for row in found], atol=1e-4)


@pytest.mark.slow
def test_every_way_to_use_a_bundle_gives_the_scores_of_the_evaluation(
    first: dict[str, Any], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINKREC_HOME", str(home))
    bundle = tmp_path / "bundle"
    assert main(["bundle", "export", first["run"], "--out", str(bundle)]) == 0
    data = home / "artifacts" / "data" / first["artifacts"]["data"]["key"]
    rows = evaluated(Path(first["predictions"]), data)
    for name, scores in {
        "pyfunc": told_by_mlflow(bundle, rows, tmp_path / "model"),
        "/score": told_by_server(bundle, rows, data),
    }.items():
        np.testing.assert_allclose(scores, rows["score_thinkrec_experts"], atol=1e-4, err_msg=name)
    one_each = rows.drop_duplicates("user_id")
    assert len(one_each) >= 2
    told = told_by_lists(as_of(bundle, one_each, tmp_path / "then"), one_each, tmp_path / "lists")
    assert len(told["batch"]) == len(told["/recommend"]) == len(one_each)
    for name, scores in told.items():
        expected = one_each["score_thinkrec_experts"][: len(scores)]
        np.testing.assert_allclose(scores, expected, atol=1e-4, err_msg=name)
