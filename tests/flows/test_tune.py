"""`thinkrec tune`: its options, its result as settings that other commands accept, and the command as a whole."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.cli import app, main
from flows.config import resolve, user_layers
from flows.tune_options import base_settings, parse_range
from tests.taste_source import write_taste_source
from thinkrec_core.config.encoder import KINDS
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ConfigError
from thinkrec_core.tuning.space import Choices, Range

OWN = "thinkrec_core.encoders.mf:MatrixFactorisation"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["sasrek"],
            "no encoder sasrek; expected mf, lightgcn, sasrec, din, dcn or package.module:Class; did you mean sasrec?",
        ),
        (["mf", "--by", "ndcg"], "--by ndcg; expected auc, uauc"),
        (["mf", "--range", "dropout"], "--range dropout is no range; expected field=low:high"),
        (["mf", "--range", "learnin_rate=1:2"], "did you mean learning_rate?"),
        (["mf", "--range", "embedding_size=0,8"], "range of embedding_size holds 0"),
        (["mf", "--set", "ladder.mf.epochs=x"], "ladder.mf.epochs is 'x'"),
        (["mf", "--trials", "0"], "--trials"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], told: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == 1


def test_ranges_are_read_as_yaml_reads_numbers() -> None:
    assert parse_range("learning_rate=1e-4:1e-2") == ("learning_rate", Range(1e-4, 1e-2, log=True, whole=False))
    assert parse_range("embedding_size=16,32") == ("embedding_size", Choices((16, 32)))
    assert parse_range("biases=true,false") == ("biases", Choices((True, False)))
    with pytest.raises(ConfigError, match="numbers, such as"):
        parse_range("dropout=a:b")


def test_a_search_starts_from_what_the_ladder_would_fit() -> None:
    config = ThinkRecConfig.model_validate(
        {"ladder": {"mf": {"kind": "mf", "epochs": 3}, "own": {"kind": OWN, "epochs": 4}}}
    )
    assert base_settings(config, "mf").epochs == 3
    assert base_settings(config, OWN).epochs == 4
    assert base_settings(config, "other.module:Encoder").kind == "other.module:Encoder"
    assert {base_settings(config, kind).kind for kind in KINDS} == set(KINDS)


@pytest.mark.parametrize("kind", ["mf", pytest.param(OWN, marks=pytest.mark.slow)])
def test_the_best_settings_are_accepted_as_options_and_as_a_file(
    tmp_path: Path, store_root: Path, prefect_api: None, kind: str
) -> None:
    from flows.tune import tune

    overrides = {"data": {"source": str(write_taste_source(tmp_path / "source", 20, 20))}}
    found = tune(kind, "smoke", overrides, 2, "auc", 1, ["batch_size=128,256", "epochs=1,2"], True)
    best = found["best"]["params"]
    assert set(best) >= {"learning_rate", "batch_size", "epochs"}
    rung = "mf" if kind == "mf" else "own"
    for prefix, lines in (("encoder", found["set"]), (f"ladder.{rung}", found["set_ladder"])):
        options = shlex.split(" ".join(lines))
        assert options[::2] == ["--set"] * len(lines)
        config = resolve("smoke", user_layers(None, options[1::2]))
        reached = config.encoder if prefix == "encoder" else getattr(config.ladder, rung)
        assert reached.kind == kind
        assert {name: getattr(reached, name) for name in best} == best
    config = resolve("smoke", user_layers(Path(found["config"]), []))
    assert config.encoder == getattr(config.ladder, rung)
    assert {name: getattr(config.encoder, name) for name in best} == best
    assert json.loads((store_root / "runs" / f"{found['run']}.json").read_text())["best"] == found["best"]


def test_the_command_names_its_argument_and_options() -> None:
    assert app is not None
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "tune", "--help"], capture_output=True, text=True, check=True
    )
    assert all(word in done.stdout for word in ("ENCODER", "--trials", "--range", "--by", "--seeds", "--no-prune"))


@pytest.mark.slow
def test_the_command_tunes_and_goes_on(tmp_path: Path) -> None:
    def run(trials: int) -> dict[str, Any]:
        command = [sys.executable, "-m", "flows.cli", "tune", "mf", "--preset", "smoke", "--json"]
        command += ["--trials", str(trials), "--set", "ladder.mf.epochs=2"]
        environment = {**os.environ, "THINKREC_HOME": str(tmp_path / "home")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    first, second = run(2), run(3)
    assert (first["finished"], second["finished"]) == (2, 3)
    assert second["trials"][:2] == first["trials"]
    assert second["study"] == first["study"]
