"""Containers as far as a machine without Docker and Kubernetes can tell: files that parse, fit together and name real commands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.utilities.templating import apply_values, find_placeholders

from deployments.platform import POOL, POOL_VARIABLE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments" / "containers"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
OBJECTS = [each for each in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()) if each]
TEMPLATE = json.loads((FOLDER / "pool.json").read_text())
DOCKERFILE = (FOLDER / "Dockerfile").read_text()


def containers() -> Iterator[dict[str, Any]]:
    for each in OBJECTS:
        if each["kind"] == "Deployment":
            yield from each["spec"]["template"]["spec"]["containers"]


COMMANDS = [service["command"] for service in COMPOSE["services"].values()] + [each["args"] for each in containers()]


def of(program: str) -> list[list[str]]:
    return [command for command in COMMANDS if command[0] == program]


@pytest.mark.parametrize("command", of("mlflow"), ids=lambda command: command[1])
def test_mlflow_knows_the_options(command: list[str]) -> None:
    from mlflow.cli import cli

    _, name, *arguments = command
    parsed = cli.commands[name].make_context(name, list(arguments)).params
    assert parsed["workers"] == "1"
    assert parsed["allowed_hosts"] == "127.0.0.1:5000,localhost:5000"


def test_every_program_is_known_and_both_targets_start_all_parts() -> None:
    assert {command[0] for command in COMMANDS} == {"prefect", "mlflow"}
    assert [command for command in of("prefect") if "deploy" in command]
    for pool, kind in ((POOL, "process"), (f"{POOL}-kubernetes", "kubernetes")):
        (worker,) = [command for command in of("prefect") if command[1] == "worker" and pool in command]
        assert worker[worker.index("--type") + 1] == kind
        assert worker[worker.index("--limit") + 1] == "1"


def test_pages_are_published_to_this_machine_only_and_no_secret_is_written_down() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert {each["spec"].get("type", "ClusterIP") for each in OBJECTS if each["kind"] == "Service"} == {"ClusterIP"}
    assert COMPOSE["x-thinkrec"]["environment"]["THINKREC_TEACHER_API_KEY"] == "${THINKREC_TEACHER_API_KEY:-}"
    assert COMPOSE["x-thinkrec"]["environment"][POOL_VARIABLE] == POOL


def test_parts_of_the_cluster_find_each_other() -> None:
    by_kind: dict[str, set[str]] = {}
    for each in OBJECTS:
        by_kind.setdefault(each["kind"], set()).add(each["metadata"]["name"])
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == "thinkrec"
    for each in OBJECTS:
        if each["kind"] == "Deployment":
            spec = each["spec"]
            assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
            volumes = {
                v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["template"]["spec"].get("volumes", [])
            }
            assert set(volumes.values()) <= by_kind["PersistentVolumeClaim"]
            mounts = {m["name"] for c in spec["template"]["spec"]["containers"] for m in c.get("volumeMounts", [])}
            assert mounts == set(volumes)
        if each["kind"] == "Service":
            assert each["spec"]["selector"]["app"] in by_kind["Deployment"]


def test_the_template_of_a_job_is_whole() -> None:
    Draft202012Validator.check_schema(TEMPLATE["variables"])
    known = TEMPLATE["variables"]["properties"]
    used = {each.name for each in find_placeholders(json.dumps(TEMPLATE["job_configuration"]))}
    assert used == set(known)
    values = {name: each.get("default") for name, each in known.items()} | {"name": "run", "command": ["prefect"]}
    values |= {"labels": {"a": "b"}, "env": [{"name": "A", "value": "b"}]}
    job = apply_values(TEMPLATE["job_configuration"]["job_manifest"], values)
    assert "{{" not in json.dumps(job)
    pod = job["spec"]["template"]["spec"]
    assert {each["name"] for each in pod["volumes"]} == {each["name"] for each in pod["containers"][0]["volumeMounts"]}
    assert job["spec"]["backoffLimit"] == 0  # a rerun goes on from the store; Kubernetes must not start two
    assert pod["restartPolicy"] == "Never"


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.slow
def test_prefects_server_takes_the_pool() -> None:
    with get_client(sync_client=True) as client:
        pool = WorkPoolCreate(name=f"{POOL}-kubernetes", type="kubernetes", base_job_template=TEMPLATE)
        made = client.create_work_pool(pool)
    assert made.base_job_template == TEMPLATE


def test_the_deployments_take_the_pool_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POOL_VARIABLE, "elsewhere")
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {apply_values(each["work_pool"], {})["name"] for each in deployments} == {"elsewhere"}


def test_the_image_holds_what_is_there_and_runs_as_nobody_in_particular() -> None:
    copied = [part for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for part in line.split()[:-1]]
    assert all((ROOT / part).exists() for part in copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= set(copied)
    assert re.search(r"^USER thinkrec$", DOCKERFILE, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", ".thinkrec"} <= set(ignored)
    assert not set(ignored) & set(copied)
