"""What every encoder owes: it learns a planted taste, repeats itself, can be saved, and never scores its own training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.base import Batch
from thinkrec_core.encoders.dcn import DCN
from thinkrec_core.encoders.din import DIN
from thinkrec_core.encoders.examples import Examples, Sizes
from thinkrec_core.encoders.fit import FittedEncoder, fit_encoder, score_examples
from thinkrec_core.encoders.out_of_fold import assign_folds, out_of_fold_logits
from thinkrec_core.encoders.own import source_digest
from thinkrec_core.encoders.registry import build_encoder, restore_encoder
from thinkrec_core.errors import ConfigError, DataError, TrainingError
from thinkrec_core.evaluation.auc import auc

SIZES = Sizes(users=60, items=41)
"""Users 1..59 and items 1..40 occur; user 60 and item 41 never do."""
KINDS = ("mf", "lightgcn", "sasrec", "din", "dcn")


def config(kind: Any, **changes: Any) -> EncoderConfig:
    fields = {"kind": kind, "embedding_size": 8, "max_length": 6, "learning_rate": 0.02, "weight_decay": 1e-5}
    return EncoderConfig(**{**fields, "batch_size": 128, "epochs": 12, "prior_folds": 3, **changes})


def taste(seed: int, per_user: int) -> Examples:
    """Users and items of two kinds; a user likes items of the own kind with chance .9 and others with .1.

    No main effect exists, so that only the interaction can tell likes from dislikes.
    """
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(1, 60), per_user)
    item = np.concatenate([rng.choice(np.arange(1, 41), per_user, replace=False) for _ in range(1, 60)])
    label = (rng.random(len(user)) < np.where(user % 2 == item % 2, 0.9, 0.1)).astype(np.int64)
    lengths = np.tile(np.arange(per_user), 59)  # a row's history: all rows of the user before it
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    start = np.repeat(np.arange(59) * per_user, per_user)
    place = np.repeat(start - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Examples(user, item, label, offsets, item[place], label[place])


TRAIN, VALID = taste(1, 20), taste(2, 12)


@pytest.fixture(scope="module")
def fitted() -> Callable[[str], FittedEncoder]:
    found = {kind: fit_encoder(config(kind), TRAIN, VALID, SIZES, seed=3) for kind in KINDS}
    return found.__getitem__


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_taste_is_found(kind: str, fitted: Callable[[str], FittedEncoder]) -> None:
    result = fitted(kind)
    assert result.epochs[0].valid_auc < 0.6  # main effects alone
    assert result.best.valid_auc > 0.8
    assert result.best.valid_auc == auc(score_examples(result.encoder, VALID), VALID.label)
    assert result.best.valid_auc == max(epoch.valid_auc for epoch in result.epochs)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_bits_whatever_the_threads(kind: str, fitted: Callable[[str], FittedEncoder]) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(99)
    state = torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        again = fit_encoder(config(kind), TRAIN, VALID, SIZES, seed=3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)  # no draw from the global generator
    for name, value in fitted(kind).encoder.state_dict().items():
        assert torch.equal(again.encoder.state_dict()[name], value), name
    other = fit_encoder(config(kind, epochs=1), TRAIN, VALID, SIZES, seed=4).encoder
    assert not torch.equal(other.item_vectors(), again.encoder.item_vectors())


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_encoder_is_the_same_encoder(kind: str, biases: bool) -> None:
    settings = config(kind, biases=biases, epochs=1)
    encoder = fit_encoder(settings, TRAIN, VALID, SIZES, seed=3).encoder
    restored = restore_encoder(settings, load(save(encoder.state_dict())))
    np.testing.assert_array_equal(score_examples(restored, VALID), score_examples(encoder, VALID))
    for name, value in encoder.tables().items():
        np.testing.assert_array_equal(restored.tables()[name], value)
    with pytest.raises(DataError, match=f"not those of a {kind} encoder of size 9"):
        restore_encoder(config(kind, biases=biases, embedding_size=9), encoder.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_tables_have_a_row_per_index_and_dot_products_explain_the_scores(
    kind: str, fitted: Callable[[str], FittedEncoder]
) -> None:
    encoder = fitted(kind).encoder
    tables = encoder.tables()
    assert {name: value.shape for name, value in tables.items()} == {
        "user_vectors": (61, 8),
        "item_vectors": (42, 8),
        "user_bias": (61,),
        "item_bias": (42,),
        "mu": (1,),
    }
    if kind in ("din", "dcn"):  # what the user's vector adds depends on the target
        return
    # A row after the last train row: its history is what the user's vector encodes.
    user, item = np.arange(1, 60), np.full(59, 7)
    likes = TRAIN.last_likes(SIZES.users, 6)[1:60]
    offsets = np.concatenate([[0], np.cumsum((likes > 0).sum(1))])
    history = likes[likes > 0]
    row = Examples(user, item, user * 0, offsets, history, np.ones_like(history))
    expected = (tables["user_vectors"][user] * tables["item_vectors"][item]).sum(1)
    expected += tables["mu"] + tables["user_bias"][user] + tables["item_bias"][item]
    np.testing.assert_allclose(score_examples(encoder, row), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["mf", "lightgcn"])
def test_unknown_users_and_items_get_the_main_effect_of_the_other_side(
    kind: str, fitted: Callable[[str], FittedEncoder]
) -> None:
    encoder = fitted(kind).encoder
    tables = encoder.tables()
    none = np.zeros(0, np.int64)
    rows = Examples(np.array([60, 5]), np.array([7, 41]), np.array([0, 0]), np.zeros(3, np.int64), none, none)
    mu, user, item = tables["mu"][0], tables["user_bias"], tables["item_bias"]
    np.testing.assert_allclose(score_examples(encoder, rows), [mu + item[7], mu + user[5]], rtol=1e-5)
    assert not tables["user_vectors"][60].any()
    assert user[60] == item[41] == 0


@pytest.mark.parametrize("fold_by", ["row", "user"])
def test_folds_are_even_and_users_stay_whole(fold_by: Any) -> None:
    settings = config("mf", fold_by=fold_by)
    folds = assign_folds(settings, TRAIN, seed=1)
    counts = np.bincount(folds, minlength=3)
    assert counts.max() - counts.min() <= (1 if fold_by == "row" else 20)
    folds_per_user = [len(np.unique(folds[TRAIN.user_idx == user])) for user in range(1, 60)]
    assert set(folds_per_user) == ({1} if fold_by == "user" else {3})
    assert np.array_equal(folds, assign_folds(settings, TRAIN, seed=1))
    assert not np.array_equal(folds, assign_folds(settings, TRAIN, seed=2))


@pytest.mark.parametrize("fold_by", ["row", "user"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_out_of_fold_logit_does_not_know_its_label(kind: str, fold_by: Any) -> None:
    settings = config(kind, fold_by=fold_by)
    folds = assign_folds(settings, TRAIN, seed=5)
    logits = out_of_fold_logits(settings, TRAIN, SIZES, 2, seed=5)
    flipped = replace(TRAIN, label=np.where(folds == 1, 1 - TRAIN.label, TRAIN.label))
    again = out_of_fold_logits(settings, flipped, SIZES, 2, seed=5)
    np.testing.assert_array_equal(again[folds == 1], logits[folds == 1])
    assert (again[folds != 1] != logits[folds != 1]).mean() > 0.9


def test_out_of_fold_logits_are_worse_than_memory_and_better_than_chance() -> None:
    settings = config("mf", learning_rate=0.05, epochs=10, patience=10)
    result = fit_encoder(settings, TRAIN, TRAIN, SIZES, seed=3)
    memory = auc(score_examples(result.encoder, TRAIN), TRAIN.label)
    unseen = auc(out_of_fold_logits(settings, TRAIN, SIZES, result.best_epoch, seed=3), TRAIN.label)
    assert memory is not None
    assert unseen is not None
    assert 0.7 < unseen < memory - 0.02


def test_training_stops_after_patience_and_keeps_the_best_epoch() -> None:
    # Valid labels turned around: no epoch beats the start by learning the train rows.
    opposite = replace(VALID, label=1 - VALID.label)
    seen: list[int] = []
    result = fit_encoder(config("mf", patience=2, epochs=30), TRAIN, opposite, SIZES, 3, lambda e: seen.append(e.epoch))
    assert len(result.epochs) - 1 == result.best_epoch + 2 == len(seen) < 30
    assert result.best.valid_auc == auc(score_examples(result.encoder, opposite), opposite.label)


def test_a_valid_split_of_one_class_is_judged_by_its_log_loss() -> None:
    likes = VALID.rows(VALID.label == 1)
    result = fit_encoder(config("mf", epochs=3), TRAIN, likes, SIZES, seed=3)
    assert np.isnan(result.best.valid_auc)
    assert result.best.valid_log_loss == min(epoch.valid_log_loss for epoch in result.epochs)


def test_a_loss_that_explodes_names_the_learning_rate() -> None:
    with pytest.raises(TrainingError, match=r"encoder\.learning_rate"):
        fit_encoder(config("mf", learning_rate=1e25), TRAIN, VALID, SIZES, seed=3)


def test_din_attends_to_real_positions_only_and_starts_at_the_main_effects() -> None:
    encoder = build_encoder(config("din"), SIZES, TRAIN, torch.Generator().manual_seed(1)).eval()
    users, items = torch.tensor([3, 3]), torch.tensor([7, 7])
    short, padded = torch.tensor([[5, 9]] * 2), torch.tensor([[0, 0, 0, 0, 5, 9]] * 2)
    assert torch.equal(encoder.score(Batch(users, items, short)), encoder.score(Batch(users, items, padded)))
    main = encoder.mu + encoder.user_bias[3] + encoder.item_bias[7]
    torch.testing.assert_close(encoder.score(Batch(users, items, short)), main.expand(2))
    assert isinstance(encoder, DIN)
    q, table = encoder.item_table[items], encoder.item_table
    expected = torch.zeros_like(q[0])
    for place in (5, 9):  # the paper's eq. 3, one history item at a time
        pair = torch.cat([q[0], table[place], q[0] - table[place], q[0] * table[place]])[None]
        expected = expected + encoder.attention(pair)[0] * table[place]
    torch.testing.assert_close(encoder.interest(padded, q), expected.expand(2, -1))


def test_dcn_crosses_as_its_equation_says() -> None:
    encoder = build_encoder(config("dcn", layers=2), SIZES, TRAIN, torch.Generator().manual_seed(1)).eval()
    assert isinstance(encoder, DCN)
    with torch.no_grad():
        encoder.last.weight.fill_(1.0)
    row = Batch(torch.tensor([3]), torch.tensor([7]), torch.tensor([[0, 0, 0, 0, 5, 9]]))
    table = encoder.item_table
    start = torch.cat([encoder.user_table[3], table[7], (table[5] + table[9]) / 2])
    crossed = start
    for cross in encoder.crosses:
        crossed = start * (cross.weight @ crossed + cross.bias) + crossed
    torch.testing.assert_close(encoder.interaction(row)[0], crossed.sum())


OWN = """
from thinkrec_core.encoders.mf import MatrixFactorisation

class Doubled(MatrixFactorisation):
    def interaction(self, batch):
        return {factor} * super().interaction(batch)
"""


def test_an_own_encoder_is_trained_saved_and_keyed_by_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_encoders.py").write_text(OWN.format(factor=2))
    settings = config("own_encoders:Doubled", epochs=2)
    encoder = fit_encoder(settings, TRAIN, VALID, SIZES, seed=3).encoder
    assert type(encoder).__name__ == "Doubled"
    restored = restore_encoder(settings, load(save(encoder.state_dict())))
    np.testing.assert_array_equal(score_examples(restored, VALID), score_examples(encoder, VALID))
    before = source_digest("own_encoders:Doubled")
    (tmp_path / "own_encoders.py").write_text(OWN.format(factor=3))
    assert source_digest("own_encoders:Doubled") != before
    for path, words in (("own_encoders:Nothing", "is not there"), ("no_such_module:It", "cannot be imported")):
        with pytest.raises(ConfigError, match=words):
            build_encoder(config(path), SIZES, TRAIN, torch.Generator())
    with pytest.raises(ConfigError, match="cannot be found"):
        source_digest("no_such_module:It")
    with pytest.raises(ValueError, match=r"expected mf, lightgcn, sasrec, din, dcn or package\.module:Class"):
        config("matrix")
