"""The router's three branches, its golden weights, and laws that hold for any weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thinkrec_core.config.experts import RouterConfig
from thinkrec_core.errors import DataError
from thinkrec_core.experts.router import cosines, gate_weights, route_users, route_weights

PAPER, SOFT = RouterConfig(), RouterConfig(mode="soft")
GOLDEN = np.array([[0.485, 0.515], [0.353, 0.647], [0.259, 0.741], [0.108, 0.892]])

positive = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(0.01, 1.0))


def test_golden_branches() -> None:
    routes = route_weights(GOLDEN, PAPER)
    assert routes.route.tolist() == ["general", "fusion", "fusion", "single"]
    expected = [[1, 0, 0], [0, 0.353, 0.647], [0, 0.259, 0.741], [0, 0, 1]]
    assert routes.gates == pytest.approx(np.array(expected))


def test_weights_are_the_softmax_of_cosines() -> None:
    # cos 1 and 0 at temperature .1: 1 / (1 + e^-10); cos .6 and .8: 1 / (1 + e^2).
    found = gate_weights(cosines([[2.0, 0.0], [3.0, 4.0], [0.0, 0.0]], [[5.0, 0.0], [0.0, 0.1]]), 0.1)
    first = [1 / (1 + np.exp(-10)), 1 / (1 + np.exp(2)), 0.5]
    assert found[:, 0] == pytest.approx(first)
    assert found.sum(axis=1) == pytest.approx(np.ones(3))


def test_thresholds_follow_the_number_of_experts() -> None:
    # N = 3: one expert is enough above .7.
    routes = route_weights([[0.71, 0.2, 0.09], [0.69, 0.21, 0.10], [1 / 3, 1 / 3, 1 / 3]], PAPER)
    assert routes.route.tolist() == ["single", "fusion", "general"]
    assert routes.gates[0].tolist() == [0, 1, 0, 0]
    assert routes.entropy[2] == pytest.approx(np.log(3))


def test_strangers_and_a_single_cluster_keep_the_general_adapter() -> None:
    routes = route_weights(GOLDEN, SOFT, known=[True, True, False, False])
    assert routes.route.tolist() == ["fusion", "fusion", "general", "general"]
    alone = route_weights([[1.0], [1.0]], SOFT)
    assert alone.route.tolist() == ["general", "general"]
    assert alone.gates.tolist() == [[1, 0], [1, 0]]


def test_soft_always_fuses() -> None:
    routes = route_weights(GOLDEN, SOFT)
    assert routes.route.tolist() == ["fusion"] * 4
    assert routes.gates[:, 1:] == pytest.approx(GOLDEN)
    assert (routes.gates[:, 0] == 0).all()


def test_hard_takes_the_largest_weight_and_fusion_takes_no_single_expert() -> None:
    hard = route_weights(GOLDEN, RouterConfig(mode="hard"))
    assert (hard.route.tolist(), hard.gates.tolist()) == (["single"] * 4, [[0, 0, 1]] * 4)
    assert route_weights([[0.5, 0.5]], RouterConfig(mode="hard")).gates.tolist() == [[0, 1, 0]]  # a tie has one winner
    fused = route_weights(GOLDEN, RouterConfig(mode="fusion"))
    assert fused.route.tolist() == ["general", "fusion", "fusion", "fusion"]


def test_untrained_experts_fold_into_the_general_adapter() -> None:
    routes = route_weights(GOLDEN, PAPER, trained=[True, False])
    assert routes.route.tolist() == ["general", "fusion", "fusion", "general"]
    assert routes.gates[1] == pytest.approx([0.647, 0.353, 0])
    assert routes.gates[3].tolist() == [1, 0, 0]
    nobody = route_weights(GOLDEN, PAPER, trained=[False, False])
    assert nobody.route.tolist() == ["general"] * 4


@given(positive, st.sampled_from([PAPER, SOFT]), st.integers(0, 31))
def test_gates_are_shares_and_users_do_not_see_each_other(raw: np.ndarray, config: RouterConfig, mask: int) -> None:
    weights = raw / raw.sum(axis=1, keepdims=True)
    trained = [bool(mask >> n & 1) for n in range(weights.shape[1])]
    routes = route_weights(weights, config, trained=trained)
    assert routes.gates.sum(axis=1) == pytest.approx(np.ones(len(weights)))
    assert (routes.gates >= 0).all()
    assert (routes.gates[:, 1:][:, ~np.array(trained)] == 0).all()
    assert np.array_equal(routes.route == "general", routes.gates[:, 0] == 1)
    alone = [route_weights(row[None], config, trained=trained) for row in weights]
    assert np.array_equal(np.concatenate([one.gates for one in alone]), routes.gates)


def test_certain_weights_have_no_entropy() -> None:
    routes = route_weights([[1.0, 0.0]], PAPER)
    assert routes.entropy.tolist() == [0.0]
    assert routes.route.tolist() == ["single"]


def test_a_vector_of_zeros_fits_nobody() -> None:
    weights = gate_weights(cosines(np.zeros((2, 3)), [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]), 0.01)
    assert weights == pytest.approx(np.full((2, 3), 1 / 3))
    routes = route_weights(weights, PAPER)
    assert routes.route.tolist() == ["general"] * 2
    assert routes.gates.tolist() == [[1, 0, 0, 0]] * 2


def test_one_user_is_routed_as_in_a_crowd_and_no_user_is_no_route() -> None:
    weights = gate_weights(cosines([[2.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]), 0.1)
    assert route_weights(weights, PAPER).route.tolist() == ["single"]
    nobody = route_weights(np.zeros((0, 2)), PAPER)
    assert (nobody.route.shape, nobody.gates.shape) == ((0,), (0, 3))


def test_a_vector_that_is_not_finite_is_named() -> None:
    with pytest.raises(DataError, match="user 1 is not finite"):
        cosines([[1.0], [float("nan")]], [[1.0]])


def test_a_user_is_routed_over_the_centroids_that_it_was_compared_with() -> None:
    # Users 0 and 1 were there before the third centroid; of two, max w > .8 takes one expert, of three, max w > .7.
    old, none = 0.1 * np.log([[0.75, 0.25], [0.9, 0.1]]), float("nan")
    cos = np.vstack([np.column_stack([old, [none, none]]), 0.1 * np.log([[0.75, 0.15, 0.1], [0.5, 0.3, 0.2]])])
    found = route_users(cos, PAPER, known=[True, True, True, False], trained=[True, True, True])
    assert found.route.tolist() == ["fusion", "single", "single", "general"]
    assert found.gates == pytest.approx(np.array([[0, 0.75, 0.25, 0], [0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]))
    assert found.weights[:2] == pytest.approx(np.array([[0.75, 0.25, 0], [0.9, 0.1, 0]]))
    assert found.compared.tolist() == [2, 2, 3, 3]
    assert found.entropy[:2] == pytest.approx(route_weights([[0.75, 0.25], [0.9, 0.1]], PAPER).entropy)
    untrained = route_users(cos, PAPER, known=[True] * 4, trained=[True, False, True])
    assert untrained.gates[0] == pytest.approx([0.25, 0.75, 0, 0])


def test_a_smaller_temperature_is_sharper_on_the_same_cosines() -> None:
    cos = [[0.6, 0.4]]
    routes = [route_users(cos, RouterConfig(temperature=t), [True], [True, True]).route[0] for t in (0.1, 0.2, 2.0)]
    assert routes == ["single", "fusion", "general"]
