from __future__ import annotations

from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from deployments import doctor
from deployments.doctor import examine
from storage.store import ArtifactStore
from thinkrec_core.config.reflections import TeacherConfig


def look(root: Path, name: str, mend: bool = False, **teacher: str) -> doctor.Finding:
    return next(each for each in examine(root, TeacherConfig(**teacher), mend) if each.name == name)


def test_a_new_store_is_fine(tmp_path: Path) -> None:
    assert all(each.fine for each in examine(tmp_path / "store", TeacherConfig(), False))


def test_little_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_GB", 1e9)
    found = look(tmp_path / "not" / "there", "disk")
    assert not found.fine
    assert "thinkrec artifacts gc" in found.remedy


def test_the_teacher_is_asked_with_its_key_and_the_key_is_not_told(
    tmp_path: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THINKREC_TEACHER_API_KEY", "sk-planted")
    url = httpserver.url_for("/v1")
    request = httpserver.expect_ordered_request("/v1/models", headers={"Authorization": "Bearer sk-planted"})
    request.respond_with_json({"data": []})
    httpserver.expect_ordered_request("/v1/models").respond_with_data("no", status=401)
    assert look(tmp_path, "teacher", base_url=url).fine
    refused = look(tmp_path, "teacher", base_url=url)
    assert not refused.fine
    assert "THINKREC_TEACHER_API_KEY" in refused.found
    assert "sk-planted" not in str(refused)
    assert not look(tmp_path, "teacher", base_url="http://127.0.0.1:1/v1").fine


def test_what_killed_runs_left_is_told_then_removed_and_not_touched_during_a_run(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "dead.json").touch()
    (runs / "whole.json").write_text("{}")
    (tmp_path / "catalog.duckdb.1.partial").touch()
    with store.in_use():
        assert look(tmp_path, "leftovers", mend=True).fine
    assert (runs / "dead.json").exists()
    told = look(tmp_path, "leftovers")
    assert not told.fine
    assert told.found == "1 names of killed runs, 1 partial files"
    assert look(tmp_path, "leftovers", mend=True).fine
    assert [path.name for path in runs.iterdir()] == ["whole.json"]
    assert look(tmp_path, "leftovers").found == "none"
