"""The stages about explanations on the tiny recommender: what a student writes, what is measured, what a kill leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from storage.language_model import save_adapter, save_trained
from storage.schemas import EXPLANATIONS, REFERENCES, STUDENT_TEXTS
from storage.store import ArtifactRef, ArtifactStore
from storage.tables import read_table, write_table
from storage.tracking import NullTracker
from tasks.explain_rows import BATCH, explain_rows
from tasks.measure_explanations import measure_texts
from tasks.scoring_bench import ScoringBench
from tasks.stage import RunContext
from tasks.view import View
from tests.tiny_model import one_thread, randomise_lora, write_tiny_model  # noqa: F401 - a fixture
from tests.tiny_recllm import tiny_recllm
from tests.tiny_world import USERS, write_world
from thinkrec_core.config.root import ThinkRecConfig
from thinkrec_core.errors import ModelError, TeacherError

ROWS = 20


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base model, the artifacts of a student with two experts, and references about all rows of valid but each fifth."""
    root = tmp_path_factory.mktemp("student")
    tiny = tiny_recllm()
    found = write_world(root, tiny.world) | {"model": write_tiny_model(root / "model")}
    (found["data"] / "statistics.json").write_text(json.dumps({"users": USERS}))
    options = tiny.model.options
    settings = {
        "answers": vars(tiny.model.answers),
        "score": vars(options),
        "slot_input_size": tiny.signals.size,
        "hidden_size": 32,
        "multiplier": 3,
        "n_tokens": 1,
    }
    save_trained(root / "general", tiny.model.lm, tiny.model.projector, settings)
    for index in range(2):
        randomise_lora(tiny.model.lm, seed=10 + index)
        save_adapter(root / f"expert_{index}" / "adapter", tiny.model.lm)
    found |= {name: root / name for name in ("general", "expert_0", "expert_1")}
    found["references"] = root / "references"
    write_references(
        found["references"], tiny.world.samples["valid"].label.tolist(), [row % 5 != 0 for row in range(ROWS)]
    )
    return found


def write_references(folder: Path, labels: list[int], accepted: list[bool]) -> None:
    folder.mkdir()
    count = len(labels)
    columns = {
        "split": ["valid"] * count,
        "row": list(range(count)),
        "label": labels,
        "verdict": ["yes" if label else "no" for label in labels],
        "trace": [
            f"The user {('disliked', 'liked')[label]} such items." if kept else ""
            for label, kept in zip(labels, accepted, strict=True)
        ],
        "answer": ["Yes"] * count,
        "rounds": [1] * count,
        "hint_ids": [[]] * count,
        "prompt_tokens": [1] * count,
        "completion_tokens": [1] * count,
        "model": ["m"] * count,
        "prompt_version": ["2"] * count,
        "accepted": accepted,
        "reason": ["" if kept else "wrong verdict" for kept in accepted],
    }
    write_table(folder / "reference_traces.parquet", columns, REFERENCES)
    summary = {"accepted": sum(accepted), "rejected": count - sum(accepted), "model": "m", "note": ""}
    (folder / "summary.json").write_text(json.dumps(summary))


def published(store: ArtifactStore, stage: str, folder: Path) -> ArtifactRef:
    with store.locked(stage, "k"):
        ref = store.find(stage, "k")
        if ref is None:
            draft = store.draft(stage, "k")
            shutil.copytree(folder, draft.path, dirs_exist_ok=True)
            ref = store.publish(draft, stage, "k", {})
    return ref


def context_of(root: Path, folders: dict[str, Path], **explanations: Any) -> RunContext:
    values = {
        "llm": {"model": str(folders["model"]), "dtype": "fp32", "projector": {"multiplier": 3}},
        "experts": {"last_layers": 2},
        "training": {"prior": "encoder"},
        "evaluation": {"explanation_tokens": 12},
        "explanations": {"split": "valid", "bootstrap": 50, **explanations},
    }
    return RunContext(ThinkRecConfig.model_validate(values), ArtifactStore(root), NullTracker(), View())


def explain(context: RunContext, folders: dict[str, Path], references: str = "references") -> ArtifactRef:
    data, encoder, general, clusters = (
        published(context.store, name, folders[name]) for name in ("data", "encoder", "general", "clusters")
    )
    experts = tuple(published(context.store, name, folders[name]) for name in ("expert_0", "expert_1"))
    told = published(context.store, references, folders[references])
    result = explain_rows.fn(context, data, encoder, general, clusters, experts, told)
    return result if isinstance(result, ArtifactRef) else result.data


def measure(context: RunContext, folders: dict[str, Path], texts: ArtifactRef) -> Path:
    data, told = (published(context.store, name, folders[name]) for name in ("data", "references"))
    result = measure_texts.fn(context, data, told, texts)
    return context.store.path(result if isinstance(result, ArtifactRef) else result.data)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def test_one_text_per_accepted_reference_in_the_words_of_its_score(store: Path, folders: dict[str, Path]) -> None:
    context = context_of(store, folders)
    ref = explain(context, folders)
    rows = read_table(context.store.path(ref) / "student_texts.parquet", STUDENT_TEXTS).to_pylist()
    assert [row["row"] for row in rows] == [row for row in range(ROWS) if row % 5]
    assert all(row["text"].startswith("Yes." if row["score"] > 0 else "No.") for row in rows)
    assert len({row["text"] for row in rows}) > 8
    assert len({row["score"] > 0 for row in rows}) == 2
    again = context_of(store, folders)
    assert explain(again, folders) == ref
    assert again.results["student_texts"].status == "cached"


def test_the_texts_do_not_depend_on_what_the_references_say(
    store: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write_references(other, [0] * ROWS, [row % 5 != 0 for row in range(ROWS)])
    context = context_of(store, folders)
    ref = explain(context, folders)
    assert explain(context, {**folders, "others": other}, "others") == ref


def test_figures_table_and_page_tell_the_same(store: Path, folders: dict[str, Path]) -> None:
    context = context_of(store, folders)
    folder = measure(context, folders, explain(context, folders))
    figures = json.loads((folder / "explanations.json").read_text())
    table = read_table(folder / "explanations.parquet", EXPLANATIONS).to_pylist()
    assert (figures["rows"], figures["references"]["rejected"], len(table)) == (16, 4, 16)
    for name in ("meteor", "rouge_l"):
        assert figures["metrics"][name]["value"] == pytest.approx(sum(row[name] for row in table) / 16)
    assert figures["metrics"]["bertscore_f1"] is None
    assert table[0]["bertscore_f1"] is None
    assert table[0]["reference"] in ("The user liked such items.", "The user disliked such items.")
    assert not table[0]["trace"].startswith(("Yes.", "No."))
    page = (folder / "explanations.html").read_text(encoding="utf-8")
    assert "METEOR" in page
    assert table[0]["reference"] in page


def test_an_encoder_adds_two_figures_and_makes_no_text_anew(store: Path, folders: dict[str, Path]) -> None:
    context = context_of(store, folders, embedding_model=str(folders["model"]), bertscore_layer=2)
    folder = measure(context, folders, explain(context, folders))
    metrics = json.loads((folder / "explanations.json").read_text())["metrics"]
    assert context.results["student_texts"].status == "cached"
    for name in ("embedding_cosine", "bertscore_f1"):
        assert 0 < metrics[name]["value"] <= 1
        assert metrics[name]["floor"] is not None


def test_a_killed_stage_goes_on_behind_its_last_batch(
    tmp_path: Path, folders: dict[str, Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    reasons = ScoringBench.reasons

    def killed(bench: ScoringBench, indices: list[int], says_yes: list[bool]) -> list[str]:
        asked.append(list(indices))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return reasons(bench, indices, says_yes)

    monkeypatch.setattr(ScoringBench, "reasons", killed)
    context = context_of(tmp_path, folders)
    with pytest.raises(KeyboardInterrupt):
        explain(context, folders)
    (kept,) = tmp_path.glob("scratch/student_texts/*/texts.jsonl")
    with kept.open("a") as file:
        file.write('{"batch": 1, "te')  # a line that a kill cut off
    ref = explain(context, folders)
    assert [len(batch) for batch in asked] == [BATCH] * 3
    assert asked[1] == asked[2]
    whole = context_of(store, folders)
    assert ref.digest == explain(whole, folders).digest


def test_without_an_accepted_reference_there_is_nothing_to_measure(tmp_path: Path, folders: dict[str, Path]) -> None:
    empty = tmp_path / "empty"
    write_references(empty, [0] * ROWS, [False] * ROWS)
    with pytest.raises(TeacherError, match="none of 20 reference traces was accepted"):
        explain(context_of(tmp_path / "store", folders), {**folders, "empty": empty}, "empty")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"embedding_model": "/nowhere"}, "/nowhere is no folder"),
        ({"bertscore_layer": 9}, "layer 9 of a text encoder with 4"),
    ],
)
def test_a_wrong_encoder_is_one_line(store: Path, folders: dict[str, Path], values: dict[str, Any], told: str) -> None:
    context = context_of(store, folders, **{"embedding_model": str(folders["model"]), **values})
    with pytest.raises(ModelError, match=told):
        measure(context, folders, explain(context, folders))
