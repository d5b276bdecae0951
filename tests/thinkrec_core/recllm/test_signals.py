"""Inputs of the soft tokens, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.tiny_world import tiny_world
from thinkrec_core.errors import DataError
from thinkrec_core.recllm.prompt import Slot
from thinkrec_core.recllm.records import Samples
from thinkrec_core.recllm.signals import SCALARS, EncoderTables, Signals

# Users 1 and 2 have train rows, user 3 has none; items 1 and 2 have, item 3 has none.
TABLES = EncoderTables(
    user_vectors=np.array([[9, 9], [1, 0], [3, 0.5], [5, 0.25]], np.float32),
    item_vectors=np.array([[9, 9], [0, 2], [2, 4], [1, 3]], np.float32),
    user_bias=np.array([0, 0.1, 0.2, 0.3], np.float32),
    item_bias=np.array([0, -0.1, 0.1, 0.5], np.float32),
)
TRAIN = Samples(
    user_idx=np.array([1, 2, 2]),
    item_idx=np.array([2, 1, 1]),
    label=np.array([1, 0, 1]),
    history_offsets=np.array([0, 0, 1, 3]),
    history_items=np.array([1, 2, 3]),
    history_labels=np.array([1, 1, 0]),
    encoder_logit=np.array([1.0, 2.0, 3.0]),
)


def column(name: str) -> np.ndarray:
    signals = Signals(TABLES, TRAIN, inputs="vectors_and_scalars")
    return signals.scalars(TRAIN)[:, SCALARS.index(name)]


def z(values: list[float]) -> np.ndarray:
    raw = np.array(values)
    return (raw - raw.mean()) / raw.std()


def test_vectors_are_standardised_over_entities_with_train_rows() -> None:
    signals = Signals(TABLES, TRAIN, inputs="vectors")
    # Users 1 and 2: means (2, .25), deviations (1, .25); user 3 is placed on the same scale.
    np.testing.assert_allclose(signals.user_vectors[1:], [[-1, -1], [1, 1], [3, 0]], atol=1e-6)
    np.testing.assert_allclose(signals.item_vectors[1:], [[-1, -1], [1, 1], [0, 0]], atol=1e-6)
    assert signals.size == 2


def test_out_of_fold_inputs_hold_nothing_that_was_fitted_on_the_rows_own_label() -> None:
    signals = Signals(TABLES, TRAIN, inputs="out_of_fold")
    scalars = signals.scalars(TRAIN)
    by_hand = np.stack([z([1, 2, 3]), z([0.5, 1.0, 0.5]), z([0, np.log(2), np.log(3)])], axis=1)
    for row in range(3):
        target = signals.slot_input(Slot(0, "target", int(TRAIN.item_idx[row])), scalars[row])
        np.testing.assert_allclose(target, by_hand[row], atol=1e-5)
        user = signals.slot_input(Slot(0, "user", int(TRAIN.user_idx[row])), scalars[row])
        np.testing.assert_allclose(user, [0, *by_hand[row, 1:]], atol=1e-5)
    assert signals.size == 3
    fitted_otherwise = replace(TABLES, user_bias=TABLES.user_bias[::-1], item_vectors=TABLES.item_vectors[::-1])
    other = Signals(fitted_otherwise, TRAIN, inputs="out_of_fold")
    for slot in (Slot(0, "user", 1), Slot(0, "target", 2), Slot(0, "history", 2, 1)):
        np.testing.assert_array_equal(
            signals.slot_input(slot, scalars[0]), other.slot_input(slot, other.scalars(TRAIN)[0])
        )


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("encoder_logit", [1, 2, 3]),
        ("user_bias", [0.1, 0.2, 0.2]),
        ("item_bias", [0.1, -0.1, -0.1]),
        ("log_user_count", [np.log(2), np.log(3), np.log(3)]),
        ("log_item_count", [np.log(2), np.log(3), np.log(3)]),
        ("history_liked_share", [0.5, 1.0, 0.5]),
        ("log_history_length", [0, np.log(2), np.log(3)]),
    ],
)
def test_scalars_by_hand(name: str, raw: list[float]) -> None:
    np.testing.assert_allclose(column(name), z(raw), atol=1e-5)


def test_extreme_values_are_clipped() -> None:
    signals = Signals(TABLES, TRAIN, inputs="vectors_and_scalars")
    other = replace(TRAIN, encoder_logit=np.array([1e9, -1e9, 2.0]))
    assert signals.scalars(other)[:, 0].tolist() == pytest.approx([5, -5, 0])


def test_the_target_slot_carries_the_scalars_of_the_sample_and_the_user_slot_what_targets_share() -> None:
    signals = Signals(TABLES, TRAIN, inputs="vectors_and_scalars")
    scalars = signals.scalars(TRAIN)[1]
    assert signals.size == 2 + len(SCALARS)
    shared = scalars * [name not in ("encoder_logit", "item_bias", "log_item_count") for name in SCALARS]
    np.testing.assert_array_equal(
        signals.slot_input(Slot(0, "user", 2), scalars), np.concatenate([signals.user_vectors[2], shared])
    )
    np.testing.assert_array_equal(
        signals.slot_input(Slot(0, "target", 1), scalars), np.concatenate([signals.item_vectors[1], scalars])
    )


@pytest.mark.parametrize(("label", "sign"), [(0, -1.0), (1, 1.0)])
def test_a_history_slot_carries_its_items_bias_and_label(label: int, sign: float) -> None:
    signals = Signals(TABLES, TRAIN, inputs="vectors_and_scalars")
    got = signals.slot_input(Slot(0, "history", 3, label), signals.scalars(TRAIN)[0])
    expected = dict.fromkeys(SCALARS, 0.0)
    biases = np.array([0.1, -0.1, -0.1])
    expected["item_bias"] = min(5.0, (0.5 - biases.mean()) / biases.std())
    expected["history_liked_share"] = sign
    np.testing.assert_allclose(got, [*signals.item_vectors[3], *expected.values()], atol=1e-5)


def test_a_vector_that_is_not_finite_is_named() -> None:
    world = tiny_world()
    broken = world.tables.item_vectors.copy()
    broken[3, 1] = np.nan
    with pytest.raises(DataError, match="encoder item_vectors of index 3 is not finite"):
        Signals(replace(world.tables, item_vectors=broken), world.samples["train"], inputs="vectors_and_scalars")
