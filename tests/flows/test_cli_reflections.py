"""`thinkrec reflections ...` as a user types it, where no pipeline has to run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.cli import main
from flows.terminal_reflections import lines
from storage.journal import Entry, Journal, request_key
from tasks.teacher.client import Answer
from thinkrec_core.reflection.trace import Reply


def thinkrec(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", "reflections", *arguments]
    environment = {**os.environ, "THINKREC_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_export_import_and_a_batch_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "Yes or No?"}], "max_tokens": 9}
    keyed = {**request, "round": 1}
    requests, results, file = tmp_path / "batch.jsonl", tmp_path / "results.jsonl", str(tmp_path / "journal.parquet")
    name = f"1-{request_key(keyed)}"
    line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": request}
    requests.write_text(json.dumps(line) + "\n")
    message = {"role": "assistant", "content": "Yes. Because."}
    body = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    good = json.dumps({"custom_id": name, "response": {"status_code": 200, "body": body}})
    bad = json.dumps({"custom_id": name, "response": {"status_code": 500, "body": "oops"}})
    results.write_text(f"{good}\n{bad}\n")
    read = json.loads(thinkrec(tmp_path / "a", "batch-read", str(requests), str(results), "--json").stdout)
    assert {name: value for name, value in read.items() if value} == {"added": 1, "refused": {"answered 500: oops": 1}}
    monkeypatch.setenv("THINKREC_HOME", str(tmp_path / "a"))
    assert main(["reflections", "batch-read", str(requests), str(results)]) == 0
    told = capfd.readouterr().out.splitlines()
    assert told[0] == "0 answers added, 1 were here already, 0 requests unanswered"
    assert told[1] == "refused, asked again by the next file: 1 x answered 500: oops"
    assert main(["reflections", "export", file]) == 0
    assert "1 answers of m" in capfd.readouterr().out
    imported = thinkrec(tmp_path / "b", "import", file, "--json")
    assert json.loads(imported.stdout) == {"added": 1, "known": 0, "differing": 0}
    kept = asdict(Answer(Reply("Yes. Because."), "stop", 0.0, 1))
    assert list(Journal.of(tmp_path / "b", "m").entries()) == [Entry(request_key(keyed), kept, keyed)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rows", "3", "export", "x.parquet"], "options belong after export"),
        (["--rows", "0"], "--rows"),
        (["--split", "tset"], "tset"),
        (["--rows", "3"], "reflections.min_accepted 16 exceeds wrong_predictions.rows 3"),
        (["--set", "teacher.modl=x"], "did you mean teacher.model?"),
        (["export", "x.parquet"], "hold no answers"),
        (["import", "nowhere.parquet"], "nowhere.parquet"),
        (["batch-read", "nowhere.jsonl", "x"], "nowhere.jsonl cannot be read"),
        (["batch-write", "x.jsonl", "--set", "teacher.base_url=local"], "local, which takes no batches"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    store_root: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(["reflections", *arguments]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1), err
    assert told in err


def test_the_words_of_a_summary() -> None:
    summary = {
        "model": "m",
        "prompt_version": "2",
        "split": "test",
        "accepted": 3,
        "rejected": 1,
        "right_verdicts": 4,
        "leaked": 1,
        "reasons": {"leaked hint": 1},
        "prompt_tokens": 1000,
        "completion_tokens": 500,
        "cost": 0.0123,
        "rounds": {"1": 2, "3": 2},
        "accepted_rounds": {"1": 2, "3": 1},
        "note": "a note",
        "table": "/t",
        "table_with_costs": "/c",
        "report": "/r",
    }
    told = lines(summary)
    assert told[:6] == [
        "m, prompts version 2: 4 test rows",
        "accepted     3 (75.0%)",
        "rejected     1; 1 leaked hint",
        "leaks        1 of 4 right verdicts speak of the hint",
        "tokens       1,500 (1,000 in prompts, 500 in answers)",
        "cost         0.0123",
    ]
    assert told[6].endswith("█" * 28)
    assert told[7].endswith("█" * 14 + "░" * 14)
    assert told[8] == "a note"
