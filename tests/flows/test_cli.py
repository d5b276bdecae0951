"""The command line as a user meets it: a process of its own, its exit code, its two streams."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.presets import preset_names


def thinkrec(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def refused(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit code 2, nothing on stdout, and one line on stderr that holds `parts`."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "--preset", "quikstart"], ["'quikstart'", "did you mean quickstart?"]),
        (
            ["run", "--set", "training.learnin_rate=1"],
            ["training.learnin_rate", "did you mean training.learning_rate?"],
        ),
        (["run", "--set", "training.steps=abc"], ["training.steps is 'abc'"]),
        (["run", "--preset", "ml-1m"], ["data.source"]),
        (["run", "--config", "/nowhere.yaml"], ["/nowhere.yaml"]),
        (["run", "--set", "llm.model=/no/model"], ["/no/model"]),
        (["run", "--set", "wrong_predictions.rows=3"], ["reflections.min_accepted 16", "wrong_predictions.rows 3"]),
        (["run", "--prest", "x"], ["--prest"]),
        (["ladder", "--rungs", "bias,mff"], ["ladder.rungs[1] is 'mff'", "did you mean mf"]),
        (["ladder", "--rungs", "popularity,mf"], ["ladder.floor bias is not among ladder.rungs"]),
        (["explanations", "--encoder", "/nowhere"], ["/nowhere is no folder", "explanations.embedding_model"]),
        (["explanations", "--split", "train"], ["explanations.split is 'train'", "'valid' or 'test'"]),
        (["run", "--preset"], ["--preset"]),
        (["run", "surplus"], ["surplus"]),
        (["rnu"], ["rnu", "run"]),
        (["--jsn"], ["--jsn"]),
        (["up", "--prefect-port", "abc"], ["--prefect-port", "'abc'"]),
        (["ui", "--mlflow-port", "70000"], ["--mlflow-port", "'70000'"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], parts: list[str]) -> None:
    refused(thinkrec(*arguments), *parts)


def test_a_mistake_under_json_is_told_the_same_way() -> None:
    refused(thinkrec("run", "--preset", "nope", "--json"), "'nope'")


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(thinkrec("run", THINKREC_HOME=str(tmp_path / "file" / "store")), str(tmp_path / "file"), "THINKREC_HOME")
    refused(thinkrec("ui", THINKREC_HOME=str(tmp_path / "file" / "store")), str(tmp_path / "file"))


def test_a_model_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    refused(thinkrec("run", "--set", f"llm.model={tmp_path}"), str(tmp_path), "no weights")


@pytest.mark.parametrize("option", ["--prefect-port", "--mlflow-port"])
def test_a_port_in_use(tmp_path: Path, option: str) -> None:
    with socket.socket() as held, socket.socket() as other:
        held.bind(("127.0.0.1", 0))
        held.listen()
        other.bind(("127.0.0.1", 0))
        port, free = held.getsockname()[1], other.getsockname()[1]
        other.close()
        rest = {"--prefect-port": "--mlflow-port", "--mlflow-port": "--prefect-port"}[option]
        result = thinkrec("ui", option, str(port), rest, str(free), THINKREC_HOME=str(tmp_path))
    refused(result, f"port {port}", option)


def test_help_comes_at_once_and_names_the_commands() -> None:
    best = float("inf")
    for _ in range(3):
        start = time.monotonic()
        result = thinkrec("--help")
        best = min(best, time.monotonic() - start)
    assert result.returncode == 0
    assert all(
        name in result.stdout for name in ("run", "ladder", "presets", "config", "assets", "ui", "up", "down", "status")
    )
    assert result.stderr == ""
    assert best < 1.0


def test_help_imports_no_heavy_library() -> None:
    code = "import sys, flows.cli; print(sorted({'torch', 'prefect', 'mlflow', 'transformers', 'pyarrow'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_without_a_command_the_help_is_shown() -> None:
    assert thinkrec().stdout == thinkrec("--help").stdout


def test_presets_as_json_are_one_object() -> None:
    result = thinkrec("presets", "--json")
    (line,) = result.stdout.splitlines()
    assert tuple(preset["name"] for preset in json.loads(line)["presets"]) == preset_names()
    assert result.stderr == ""


def test_config_prints_what_config_reads(tmp_path: Path) -> None:
    shown = thinkrec("config", "--preset", "smoke", "--set", "training.learning_rate=2e-4", "--set", "llm.score=yes")
    file = tmp_path / "shown.yaml"
    file.write_text(shown.stdout)
    again = thinkrec("config", "--preset", "quickstart", "--config", str(file), "--json")
    config = json.loads(again.stdout)["config"]
    direct = json.loads(
        thinkrec("config", "--preset", "smoke", "--set", "training.learning_rate=2e-4", "--json").stdout
    )
    assert config == direct["config"]
    assert config["training"]["learning_rate"] == 2e-4


def test_status_and_down_of_a_fresh_store(tmp_path: Path) -> None:
    home = str(tmp_path / "fresh")
    status = json.loads(thinkrec("status", "--json", THINKREC_HOME=home).stdout)
    assert status == {"store": home, "daemons": [], "runs": []}
    assert json.loads(thinkrec("down", "--json", THINKREC_HOME=home).stdout) == {"ended": []}
    assert "nothing was running" in thinkrec("down", THINKREC_HOME=home).stdout


def test_a_bug_keeps_its_traceback() -> None:
    code = (
        "import sys, flows.cli as cli, flows.presets as presets\n"
        "presets.preset_names = lambda: 1 / 0\n"
        "sys.exit(cli.main(['presets']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr
    assert "Traceback" in result.stderr
