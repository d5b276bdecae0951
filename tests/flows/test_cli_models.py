"""`thinkrec models`, `thinkrec promote` and `--bundle champion` on a real registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli import main
from flows.cli_bundle import find_bundle
from storage.tracking import Tracker
from tests.storage.test_model_registry import FIRST, bundle


def test_a_version_is_listed_promoted_and_found_as_champion(
    store_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["promote", "candidate"]) == 2
    assert "no models are registered" in capfd.readouterr().err
    tracker = Tracker.start(store_root, "run", {})
    registry = tracker.registry()
    assert registry is not None
    for run in ("one", "two"):
        version = registry.register("m", bundle(store_root, run, 0.7), run, tracker.run_id)
    registry.decided(version, FIRST, tracker.run_id)
    tracker.finish()
    assert main(["promote", "m/3"]) == 2
    assert "no registered version m/3" in capfd.readouterr().err
    assert main(["promote", "m/1"]) == 0
    assert main(["promote", "candidate"]) == 0
    assert capfd.readouterr().out.splitlines() == ["m/1 is champion now", "m/2 is champion now; before, it was m/1"]
    assert find_bundle("champion").run == "two"
    assert main(["models", "--json"]) == 0
    one, two = json.loads(capfd.readouterr().out.splitlines()[-1])["models"]
    assert (one["aliases"], one["decision"]) == ([], None)
    assert (two["aliases"], two["decision"]) == (["candidate", "champion"], "promoted")
