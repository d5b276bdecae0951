from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from storage import journal as module
from storage.journal import Entry, Journal, request_key
from thinkrec_core.errors import StoreError

WRITER = """
import sys
from pathlib import Path
from storage.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(40):
    journal.append(f"{sys.argv[2]}-{number}", {"text": sys.argv[2] * 3000})
    journal.append(f"both-{number}", {"text": sys.argv[2]})
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "m.jsonl"


def test_an_answer_survives_and_the_first_one_counts(path: Path) -> None:
    journal = Journal(path)
    assert journal.get("a") is None
    assert journal.append("a", {"text": "one é\n"}) == {"text": "one é\n"}
    assert journal.append("a", {"text": "two"}) == {"text": "one é\n"}
    assert Journal(path).get("a") == {"text": "one é\n"}
    assert len(Journal(path)) == 1


def test_entries_keep_the_request_and_the_first_answer_of_a_key(path: Path) -> None:
    journal = Journal(path)
    entries = [Entry("a", {"n": 1}, {"round": 1}), Entry("a", {"n": 2}, {"round": 1}), Entry("b", {"n": 3})]
    assert journal.append_all(entries) == [{"n": 1}, {"n": 1}, {"n": 3}]
    assert list(Journal(path).entries()) == [entries[0], entries[2]]


def test_a_torn_line_is_counted(path: Path) -> None:
    journal = Journal(path)
    journal.append("a", {"n": 1})
    path.write_bytes(path.read_bytes()[:-9])
    journal = Journal(path)
    journal.append("b", {"n": 2})
    assert (Journal(path).damaged, len(Journal(path))) == (1, 1)


def test_the_second_asker_waits_for_the_first(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from storage.journal import Journal\n"
        "with Journal(Path(sys.argv[1])).one_asker(): print('in')"
    )
    root = Path(module.__file__).parents[1]
    with Journal(path).one_asker():
        second = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], cwd=root, env={"PYTHONPATH": str(root)}, stdout=subprocess.PIPE
        )
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.8)
    assert second.communicate(timeout=20)[0] == b"in\n"


def test_what_another_process_appended_is_seen(path: Path) -> None:
    first, second = Journal(path), Journal(path)
    first.append("a", {"n": 1})
    assert second.get("a") == {"n": 1}
    second.append("b", {"n": 2})
    assert first.get("b") == {"n": 2}


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_skipped_and_closed_by_the_next_answer(path: Path, cut: int) -> None:
    journal = Journal(path)
    journal.append("a", {"n": 1})
    journal.append("b", {"n": 2})
    path.write_bytes(path.read_bytes()[:-cut])
    reopened = Journal(path)
    assert (reopened.get("a"), reopened.get("b")) == ({"n": 1}, None)
    reopened.append("b", {"n": 3})
    reopened.append("c", {"n": 4})
    again = Journal(path)
    assert again.get("a") == {"n": 1}
    # A line that lost its line feed alone is whole; any other was never finished and is answered anew.
    assert again.get("b") == ({"n": 2} if cut == 1 else {"n": 3})
    assert again.get("c") == {"n": 4}


def test_lines_of_other_shapes_are_skipped(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'\n[]\n{"key": "a"}\nnull\n\xff\xfe\n{"key": "b", "answer": {"n": 1}}\n')
    assert len(Journal(path)) == 1
    assert Journal(path).get("b") == {"n": 1}


def test_two_processes_append_without_mixing_their_lines(path: Path) -> None:
    root = Path(module.__file__).parents[1]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], cwd=root, env={"PYTHONPATH": str(root)})
        for name in ("x", "y")
    ]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 120
    journal = Journal(path)
    assert all(journal.get(f"{name}-{n}") == {"text": name * 3000} for name in "xy" for n in range(40))


def test_the_line_is_synced_before_the_answer_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\)"):
        journal.append("a", {"n": 1})


def test_the_key_follows_the_content_not_the_order() -> None:
    assert request_key({"a": 1, "b": ["é"]}) == request_key({"b": ["é"], "a": 1})
    assert request_key({"a": 1}) != request_key({"a": 2})
    # sha256 of the six bytes {"a":1} without spaces, by `printf '{"a":1}' | sha256sum`.
    assert request_key({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


@pytest.mark.parametrize("model", ["org/model:7b", "../../etc/passwd", "a b", "..."])
def test_the_file_of_a_model_lies_in_the_journal_folder(tmp_path: Path, model: str) -> None:
    assert Journal.of(tmp_path, model).path.parent == tmp_path / "journal"
