"""Dialogues by batches: round after round through files, with lines that fail, are cut, or belong elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from storage.journal import Journal, request_key
from tasks.teacher.batch import Written, read_batch, write_batch
from tasks.teacher.cases import Cases
from tasks.teacher.conversations import Asking
from tasks.teacher.identity import Teacher
from tasks.teacher.reflecting import replay_all
from tests.batch_endpoint import completion, run_batch
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import StoreError, TeacherError
from thinkrec_core.reflection.dialogue import Dialogue
from thinkrec_core.reflection.prompts import Case

REASONS = "The user prefers quiet dramas of that time."
LABELS = [0, 1, 0, 1, 0, 1]
CASES = Cases(
    "train",
    [10 * number for number in range(len(LABELS))],
    [Case(label, f"Item {n}", "Drama", (("Old A", 1), ("Old B", 0))) for n, label in enumerate(LABELS)],
)
CONFIG = ThinkRecConfig.model_validate(
    {"teacher": {"base_url": "https://h/v1", "model": "m"}, "reflections": {"max_rounds": 3}}
)


def dialogues(root: Path) -> list[Dialogue]:
    return replay_all(CONFIG, Teacher("m", None), CASES, Journal.of(root, "m"), lambda call: None)


def write(root: Path, target: Path, most: int = 50_000) -> Written:
    return write_batch(dialogues(root), CASES.rows, Asking(CONFIG.teacher, "m", CONFIG.seed), target, most)


def yes(body: dict[str, Any], place: int) -> tuple[int, Any]:
    """Yes, until the message says that No is right."""
    told = "correct answer is No" in body["messages"][-1]["content"]
    return 200, completion(f"{'No' if told else 'Yes'}. {REASONS}")


def test_each_file_holds_the_next_round_until_nothing_is_left(tmp_path: Path) -> None:
    first = write(tmp_path, tmp_path / "1.jsonl")
    assert (first.requests, first.rounds, first.left, first.accepted, first.rejected) == (6, {1: 6}, 0, 0, 0)
    read = read_batch(tmp_path, tmp_path / "1.jsonl", run_batch(tmp_path / "1.jsonl", yes))
    assert (read.added, read.known, read.unanswered, read.refused) == (6, 0, 0, {})
    second = write(tmp_path, tmp_path / "2.jsonl")
    assert (second.requests, second.rounds, second.accepted) == (3, {2: 3}, 3)
    bodies = [json.loads(line)["body"] for line in (tmp_path / "2.jsonl").read_text().splitlines()]
    assert all([m["role"] for m in body["messages"][-3:]] == ["user", "assistant", "user"] for body in bodies)
    read_batch(tmp_path, tmp_path / "2.jsonl", run_batch(tmp_path / "2.jsonl", yes))
    last = write(tmp_path, tmp_path / "3.jsonl")
    assert (last.requests, last.accepted, last.rejected) == (0, 6, 0)
    assert not (tmp_path / "3.jsonl").exists()
    assert {dialogue.trace for dialogue in dialogues(tmp_path)} == {REASONS}


def test_a_line_names_the_round_and_the_key_of_its_request(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "1.jsonl")
    for text in (tmp_path / "1.jsonl").read_text().splitlines():
        line = json.loads(text)
        assert line["custom_id"] == f"1-{request_key({**line['body'], 'round': 1})}"


def test_the_same_results_twice_change_nothing(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "1.jsonl")
    results = run_batch(tmp_path / "1.jsonl", yes)
    read_batch(tmp_path, tmp_path / "1.jsonl", results)
    before = Journal.of(tmp_path, "m").path.read_bytes()
    again = read_batch(tmp_path, tmp_path / "1.jsonl", results)
    assert (again.added, again.known, again.differing) == (0, 6, 0)
    other = run_batch(tmp_path / "1.jsonl", lambda body, place: (200, completion("No idea.")))
    assert read_batch(tmp_path, tmp_path / "1.jsonl", other).differing == 6
    assert Journal.of(tmp_path, "m").path.read_bytes() == before


def test_lines_that_fail_are_told_and_asked_again(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "1.jsonl")

    def some(body: dict[str, Any], place: int) -> tuple[int, Any]:
        failures = {1: (0, None), 2: (429, {"error": {"message": "slow down"}}), 4: (500, "oops")}
        return failures.get(place) or yes(body, place)

    read = read_batch(tmp_path, tmp_path / "1.jsonl", run_batch(tmp_path / "1.jsonl", some))
    assert (read.added, read.unanswered) == (3, 3)
    assert read.refused == {
        "This request could not be executed": 1,
        "answered 429: slow down": 1,
        "answered 500: oops": 1,
    }
    again = write(tmp_path, tmp_path / "2.jsonl")
    assert again.rounds[1] == 3
    first = {json.loads(line)["custom_id"] for line in (tmp_path / "1.jsonl").read_text().splitlines()}
    second = [json.loads(line)["custom_id"] for line in (tmp_path / "2.jsonl").read_text().splitlines()]
    assert sum(name in first for name in second) == 3


def test_bodies_that_are_no_completions_were_paid_and_are_kept(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "1.jsonl")

    def some(body: dict[str, Any], place: int) -> tuple[int, Any]:
        odd = {0: {"detail": "hello"}, 1: "text", 2: None, 3: completion(None, reasoning_content="long thought")}
        return (200, odd[place]) if place in odd else yes(body, place)

    read = read_batch(tmp_path, tmp_path / "1.jsonl", run_batch(tmp_path / "1.jsonl", some))
    assert (read.added, read.unanswered) == (6, 0)
    assert write(tmp_path, tmp_path / "2.jsonl").rounds[2] >= 4


def test_damaged_and_foreign_lines_are_counted(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "1.jsonl")
    output, errors = run_batch(tmp_path / "1.jsonl", yes)
    whole = output.read_text()
    foreign = json.dumps({"custom_id": "1-abc", "response": {"status_code": 200, "body": completion("Yes.")}})
    output.write_text(f"[]\nnull\n\n{foreign}\n{whole[:-40]}")
    read = read_batch(tmp_path, tmp_path / "1.jsonl", [output, errors])
    assert (read.added, read.unanswered, read.damaged, read.unknown) == (5, 1, 3, 1)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((400, {"error": {"message": "no such model"}}), r"refused every line \(6 x answered 400: no such model\)"),
        ((0, None), r"refused every line \(6 x This request could not be executed\)"),
        ((200, {"hello": 1}), "none of 6 results is a chat completion"),
    ],
)
def test_results_without_any_answer_leave_the_journal_alone(tmp_path: Path, answer: Any, told: str) -> None:
    write(tmp_path, tmp_path / "1.jsonl")
    results = run_batch(tmp_path / "1.jsonl", lambda body, place: answer)
    with pytest.raises(TeacherError, match=told):
        read_batch(tmp_path, tmp_path / "1.jsonl", results)
    assert not Journal.of(tmp_path, "m").path.exists()


def test_results_of_another_file_and_files_that_are_none(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "1.jsonl")
    results = run_batch(tmp_path / "1.jsonl", yes)
    read_batch(tmp_path, tmp_path / "1.jsonl", results)
    write(tmp_path, tmp_path / "2.jsonl")
    with pytest.raises(TeacherError, match="none of 6 results belongs to"):
        read_batch(tmp_path, tmp_path / "2.jsonl", results)
    (tmp_path / "empty").touch()
    with pytest.raises(TeacherError, match="hold no result"):
        read_batch(tmp_path, tmp_path / "1.jsonl", [tmp_path / "empty"])
    with pytest.raises(StoreError, match="line 1 is no request of a batch"):
        read_batch(tmp_path, results[0], results)
    with pytest.raises(StoreError, match="cannot be read"):
        read_batch(tmp_path, tmp_path / "1.jsonl", [tmp_path / "nothing"])
    changed = tmp_path / "changed.jsonl"
    changed.write_text((tmp_path / "1.jsonl").read_text().replace("Item 3", "Item 4"))
    with pytest.raises(StoreError, match="line 4 was changed"):
        read_batch(tmp_path, changed, results)


def test_a_file_has_a_limit_and_the_rest_waits(tmp_path: Path) -> None:
    first = write(tmp_path, tmp_path / "1.jsonl", 4)
    assert (first.requests, first.left) == (4, 2)
    read_batch(tmp_path, tmp_path / "1.jsonl", run_batch(tmp_path / "1.jsonl", yes))
    second = write(tmp_path, tmp_path / "2.jsonl", 4)
    assert (second.requests, second.rounds, second.left) == (4, {1: 2, 2: 2}, 0)
    with pytest.raises(StoreError, match="is there already"):
        write(tmp_path, tmp_path / "2.jsonl")
