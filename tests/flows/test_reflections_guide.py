"""docs/reflections.md: every command exists with its options; slow: they run in their order against a played teacher."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from flows.cli import app
from flows.config_layers import file_layer
from storage.schemas import COSTED_REFLECTIONS
from tests.batch_endpoint import completion, run_batch
from tests.chat_replies import completion as chat_reply

GUIDE = (Path(__file__).parents[2] / "docs" / "reflections.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
    for line in block.splitlines()
]
(TEACHER,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
REASONS = "The user prefers quiet dramas of that time."
SMALL = {"data": {"max_users": 60}, "encoder": {"kind": "mf", "epochs": 1}, "wrong_predictions": {"rows": 16}}


def verdict(body: dict[str, Any]) -> str:
    """Yes, until the hint says which word is right."""
    told = re.search(r"End with one word: (Yes|No)\.", body["messages"][-1]["content"])
    return told.group(1) if told else "Yes"


def test_every_command_and_option_exists() -> None:
    assert len(COMMANDS) == 10
    for command in COMMANDS:
        _, group, *arguments = shlex.split(command)
        found: Any = typer.main.get_command(app).commands[group]  # type: ignore[attr-defined]
        if arguments and arguments[0] in found.commands:
            found = found.commands[arguments.pop(0)]
        found.make_context(group, arguments)


def test_the_table_names_every_column() -> None:
    table = GUIDE.split("| Column | Meaning |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(COSTED_REFLECTIONS.names)


def test_the_settings_are_settings(tmp_path: Path) -> None:
    (tmp_path / "teacher.yaml").write_text(TEACHER)
    assert "teacher.base_url" in set(file_layer(tmp_path / "teacher.yaml").leaves())


@pytest.fixture
def teacher(httpserver: HTTPServer) -> Iterator[str]:
    def handle(request: Request) -> Response:
        return chat_reply(verdict(json.loads(request.get_data())), 100, 10, reasoning_content=REASONS)

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
    return httpserver.url_for("/v1")


@pytest.mark.slow
def test_the_commands_run_in_their_order(tmp_path: Path, teacher: str) -> None:
    settings = yaml.safe_load(TEACHER.replace("https://HOST/v1", teacher))
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump({**settings, **SMALL}))
    told: dict[str, dict[str, Any]] = {}
    for command in COMMANDS:
        if command.startswith("thinkrec teacher serve"):
            continue  # tests/flows/test_cli_teacher.py starts it
        home = tmp_path / ("batches" if "batch-" in command else "live")
        environment = {**os.environ, "THINKREC_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
        line = [sys.executable, "-m", "flows.cli", *shlex.split(command)[1:], "--json"]
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        told[command] = json.loads(done.stdout)
        if "batch-write round1" in command:
            output, errors = run_batch(
                tmp_path / "round1.jsonl",
                lambda body, place: (200, completion(verdict(body), reasoning_content=REASONS)) if place else (0, None),
            )
            output.rename(tmp_path / "results1.jsonl")
            errors.rename(tmp_path / "errors1.jsonl")
    first, references, exported, imported, replayed, written, read, again = told.values()
    assert first["accepted"] == replayed["accepted"] == 16
    assert first["artifacts"]["reflections"]["digest"] == replayed["artifacts"]["reflections"]["digest"]
    assert references["accepted"] + references["rejected"] > 50
    assert imported == {"added": 0, "known": exported["answers"], "differing": 0}
    assert (written["requests"], read["added"], read["unanswered"]) == (16, 15, 1)
    assert again["requests"] == 16 - again["accepted"]
    assert again["rounds"]["1"] == 1
