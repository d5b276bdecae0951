"""`thinkrec experts` and `--experts`: every command of the guide is one, and mistakes are one line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from flows.cli import app, main
from flows.cli_experts import number_layers
from flows.config import resolve
from flows.config_layers import assignment_layer, field_names

GUIDE = (Path(__file__).parents[2] / "docs" / "experts.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].strip() for line in GUIDE.splitlines() if line.startswith("thinkrec ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_guide_exist(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    found = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    if hasattr(found, "commands"):
        found, arguments = found.commands[arguments[0]], arguments[1:]
    parsed = found.make_context(name, arguments).params
    for assignment in parsed.get("assignments") or []:
        assert next(assignment_layer(assignment).leaves()) in field_names()


def test_fields_of_the_guide_exist() -> None:
    named = re.findall(r"`(experts\.[\w.]+)", GUIDE)
    assert len(named) > 8
    assert set(named) <= set(field_names())


def test_the_number_of_experts() -> None:
    assert resolve("smoke", number_layers("3")).experts.candidates == (3,)
    assert resolve("smoke", number_layers("auto")).experts.candidates == (1, 2, 3, 4, 5, 6)
    assert resolve("smoke", number_layers("silhouette")).experts.choose == "silhouette"
    assert resolve("smoke", number_layers(None)).experts.candidates == (2,)
    with pytest.raises(typer.BadParameter, match="'many' is no number of experts"):
        number_layers("many")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["export", "--user", "1", "--out", "out"], "no finished run in"),
        (["export", "--user", "1", "--out", "out", "--run", "x"], "no run x"),
        (["add", "--source", "nowhere"], "no finished run in"),
    ],
)
def test_without_a_run_it_is_one_line(
    arguments: list[str], told: str, store_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experts", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
