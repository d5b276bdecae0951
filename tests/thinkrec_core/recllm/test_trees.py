"""Prompts that stand as trees have the scores of whole prompts, and every prompt stands in exactly one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_recllm import Tiny, tiny_recllm
from tests.user_rows import rows_of_users
from thinkrec_core.recllm.answers import Answer
from thinkrec_core.recllm.depth import takes_trees
from thinkrec_core.recllm.examples import Example
from thinkrec_core.recllm.prompt import Prompt
from thinkrec_core.recllm.scoring import score_examples
from thinkrec_core.recllm.trees import LEAST_SHARED, PromptTree, batches_of, collate_trees, trees_of

FAR = 10**6


def tree_scores(tiny: Tiny, examples: list[Example], trees: list[PromptTree], most_tokens: int) -> np.ndarray:
    scores = np.full(len(examples), np.nan)
    for batch in batches_of(trees, most_tokens):
        made = collate_trees(examples, batch, tiny.model.projector.n_tokens)
        with torch.no_grad():
            scores[np.concatenate([tree.rows for tree in batch])] = tiny.model.score(made).numpy()
    return scores


def ids_of(tree: PromptTree, examples: Sequence[Example]) -> list[tuple[int, ...]]:
    """The prompts, from root to leaf, in the order of the leaves."""
    above = {node.parent for node in tree.nodes}
    found = []
    for leaf in range(len(tree.nodes)):
        if leaf in above:
            continue
        ids: tuple[int, ...] = ()
        number = leaf
        while number >= 0:
            node = tree.nodes[number]
            ids = (*examples[node.example].prompt.ids[node.start : node.stop], *ids)
            number = node.parent
        found.append(ids)
    return found


@pytest.mark.parametrize("slots", [True, False])
@pytest.mark.parametrize("n_tokens", [1, 3])
@pytest.mark.parametrize("most_tokens", [1, 400, FAR])
def test_scores_are_those_of_whole_prompts(n_tokens: int, most_tokens: int, slots: bool) -> None:
    tiny = tiny_recllm(n_tokens)
    tiny.model.double()
    examples = rows_of_users(tiny, slots)
    trees = trees_of(examples, n_tokens, most_tokens)
    whole = score_examples(tiny.model, examples, tiny.pieces.pad_id, 4)
    np.testing.assert_allclose(tree_scores(tiny, examples, trees, most_tokens), whole, rtol=0, atol=1e-9)
    assert np.ptp(whole) > 0.01
    # Labels and priors come in the order of the examples too.
    batch = collate_trees(examples, trees, n_tokens)
    order = np.concatenate([tree.rows for tree in trees])
    assert batch.label_B.tolist() == [examples[row].label for row in order]
    assert batch.prior_B.tolist() == pytest.approx([examples[row].prior for row in order])


def test_a_user_is_a_tree_of_beginning_histories_and_ends() -> None:
    tiny = tiny_recllm()
    same = rows_of_users(tiny)
    # The user's soft token knows the history; where it does not, all prompts of a user begin alike.
    examples = [replace(each, slot_inputs=np.ones_like(each.slot_inputs)) for each in same]
    trees = trees_of(examples, 1, FAR)
    assert [len(tree.rows) for tree in trees] == [5, 5, 5]
    for tree in trees:
        assert [node.parent for node in tree.nodes].count(-1) == 1
        depth = [0]
        for node in tree.nodes[1:]:
            depth.append(depth[node.parent] + 1)
        assert max(depth) >= 2
    lengths = sum(len(each.prompt.ids) for each in examples)
    assert sum(tree.tokens for tree in trees) < sum(tree.tokens for tree in trees_of(same, 1, FAR)) < 0.8 * lengths


def test_an_answer_sees_its_prompt_and_nothing_else() -> None:
    tiny = tiny_recllm()
    examples = rows_of_users(tiny)
    trees = trees_of(examples, 1, FAR)
    batch = collate_trees(examples, trees, 1)
    order = [examples[row] for tree in trees for row in tree.rows]
    assert [ids for tree in trees for ids in ids_of(tree, examples)] == [example.prompt.ids for example in order]
    at_answer = batch.position_BT[0, batch.answer_start_B].tolist()
    assert at_answer == [len(example.prompt.ids) - 1 for example in order]
    with torch.no_grad():
        before = tiny.model.score(batch)
        for number, start in enumerate(batch.answer_start_B.tolist()[:4]):
            changed = batch.input_ids_BT.clone()
            changed[0, start - 1] += 1
            moved = (tiny.model.score(replace(batch, input_ids_BT=changed)) - before).abs() > 1e-6
            assert moved.nonzero()[:, 0].tolist() == [number]


def test_only_prompts_of_one_user_and_one_kind_share_a_tree() -> None:
    tiny = tiny_recllm()
    examples = rows_of_users(tiny)
    for kinds in (None, [row % 2 for row in range(len(examples))]):
        for tree in trees_of(examples, 1, FAR, kinds):
            assert len({examples[row].user for row in tree.rows}) == 1
            assert kinds is None or len({kinds[row] for row in tree.rows}) == 1
    alone = [replace(example, user=number) for number, example in enumerate(examples)]
    assert all(len(tree.nodes) == 1 for tree in trees_of(alone, 1, FAR))


def test_a_body_that_attends_in_its_own_way_takes_no_trees() -> None:
    tiny = tiny_recllm()
    body = tiny.model.causal.base_model
    assert takes_trees(body)
    for name, value in {
        "sliding_window": 64,
        "attn_logit_softcapping": 50.0,
        "_attn_implementation": "flash_attention_2",
    }.items():
        before = getattr(body.config, name, None)
        setattr(body.config, name, value)
        assert not takes_trees(body)
        setattr(body.config, name, before)
    assert takes_trees(body)


PROMPTS = st.lists(
    st.tuples(st.integers(1, 3), st.lists(st.sampled_from([1, 2]), min_size=1, max_size=40)), min_size=1, max_size=30
)


@settings(max_examples=100, deadline=None)
@given(PROMPTS, st.integers(1, 120))
def test_any_prompts_stand_once_in_trees_and_batches(drawn: list[tuple[int, list[int]]], most_tokens: int) -> None:
    # Runs of equal tokens make long common beginnings of every depth.
    made = [(user, tuple(np.repeat(ids, 5).tolist())) for user, ids in drawn]
    nothing = np.zeros((0, 1), np.float32)
    answer = Answer((0,), False)
    examples = [Example(Prompt(ids, ()), nothing, 0, 0.0, answer, row, user) for row, (user, ids) in enumerate(made)]
    trees = trees_of(examples, 1, most_tokens)
    assert sorted(row for tree in trees for row in tree.rows.tolist()) == list(range(len(examples)))
    for tree in trees:
        assert ids_of(tree, examples) == [examples[row].prompt.ids for row in tree.rows]
        above = {node.parent for node in tree.nodes} - {-1}
        assert all(tree.nodes[number].stop - tree.nodes[number].start >= LEAST_SHARED for number in above)
        assert all(node.stop > node.start for node in tree.nodes)
        assert all(node.parent < number for number, node in enumerate(tree.nodes))
    batches = list(batches_of(trees, most_tokens))
    assert [tree for batch in batches for tree in batch] == trees
    assert all(len(batch) == 1 or sum(tree.tokens for tree in batch) <= most_tokens for batch in batches)
    batch = collate_trees(examples, trees, 1)
    assert batch.input_ids_BT.shape == (1, sum(tree.tokens for tree in trees))
