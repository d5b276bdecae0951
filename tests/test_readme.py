"""README and docs cannot promise a command, a target, an option or a file that does not exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from flows.cli import app
from flows.config_layers import assignment_layer, field_names
from flows.presets import preset_names, read_preset
from thinkrec_core.config.root import ThinkRecConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
FENCES = [
    line.split("#")[0].strip()
    for text in (README, *DOCS)
    for language, block in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)
    if language == "bash"
    for line in block.splitlines()
]
INLINE = re.findall(r"`((?:make|thinkrec) [^`]+)`", README)
HEADERS = [read_preset(name).header.splitlines()[0].split("   ")[0] for name in preset_names()]
COMMANDS = [command for command in [*FENCES, *INLINE, *HEADERS] if command]


def of(program: str) -> list[str]:
    return [command for command in COMMANDS if command.split()[0] == program]


def test_the_readme_was_parsed() -> None:
    assert len(of("thinkrec")) >= 8
    assert len(of("make")) >= 4


@pytest.mark.parametrize("command", of("make"))
def test_make_targets_exist(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in command.split()[1:]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


@pytest.mark.parametrize("command", of("thinkrec"))
def test_commands_and_options_exist(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    parsed = typer.main.get_command(app).commands[name].make_context(name, arguments).params  # type: ignore[attr-defined]
    assert parsed.get("preset", "quickstart") in preset_names()
    for assignment in parsed.get("assignments") or []:
        assert next(assignment_layer(assignment).leaves()) in field_names()


def test_files_of_the_tables_and_links_exist() -> None:
    named = re.findall(r"`((?:thinkrec_core|storage|tasks|flows|deployments)/[\w/.]*)`", README)
    linked = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(named) > 10
    for path in [*named, *linked]:
        assert (ROOT / path).exists(), path


def test_the_tree_names_every_folder() -> None:
    tree = README.split("## The tree")[1].split("```")[1]
    for folder in ("flows", "tasks", "storage", "thinkrec_core", "deployments", "tests", "docs"):
        assert f"\n{folder}/" in tree
        assert (ROOT / folder).is_dir()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_yaml_about_the_teacher_is_configuration(path: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        values = yaml.safe_load(block)
        if "teacher" in values:
            assert ThinkRecConfig.model_validate(values).teacher.base_url.startswith("https://")
