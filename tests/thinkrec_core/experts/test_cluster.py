"""Planted clusters are found, numbered by size, and the odd cases have a defined result."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from thinkrec_core.config.experts import ExpertsConfig, RouterConfig
from thinkrec_core.errors import DataError
from thinkrec_core.experts import partition
from thinkrec_core.experts.cluster import cluster_users
from thinkrec_core.experts.router import cosines, gate_weights, route_weights
from thinkrec_core.seeds import generator

CLUSTERINGS = ("ward", "kmeans", "minibatch")


def planted(sizes: tuple[int, ...] = (30, 60), d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(len(groups))
    vectors = (groups[:, None] * 6.0 + rng.normal(size=(len(groups), d)))[order] * np.array([1.0, 100.0, 0.01, 3.0])[:d]
    return np.vstack([np.zeros(d), vectors]), groups[order]


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_planted_groups_are_found_and_numbered_by_size(clustering: str) -> None:
    vectors, truth = planted()
    found = cluster_users(vectors, np.ones(91), ExpertsConfig(clustering=clustering), generator(1, "clusters"))
    assert found.assignment[0] == -1
    assert found.assignment[1:].tolist() == (1 - truth).tolist()  # the larger group is cluster 0
    assert found.sizes == (60, 30)
    assert found.silhouette is not None
    assert found.silhouette > 0.6
    z = found.routing_vectors(vectors[1:])
    assert z.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert z.std(axis=0) == pytest.approx(np.ones(4))
    assert found.centroids == pytest.approx(np.stack([z[truth == 1].mean(axis=0), z[truth == 0].mean(axis=0)]))


def test_ward_is_the_cut_that_scikit_learn_makes() -> None:
    z = np.random.default_rng(2).normal(size=(120, 5))
    found = cluster_users(np.vstack([np.zeros(5), z]), np.ones(121), ExpertsConfig(count=6), generator(1, "c"))
    reference = AgglomerativeClustering(n_clusters=6, linkage="ward").fit_predict(found.routing_vectors(z))
    assert adjusted_rand_score(reference, found.assignment[1:]) == 1.0


def test_raw_space_keeps_the_clusters_and_moves_the_centroids() -> None:
    vectors, truth = planted()
    z = cluster_users(vectors, np.ones(91), ExpertsConfig(), generator(1, "c"))
    raw = cluster_users(vectors, np.ones(91), ExpertsConfig(space="raw"), generator(1, "c"))
    assert np.array_equal(raw.assignment, z.assignment)
    assert raw.centroids[0] == pytest.approx(vectors[1:][truth == 1].mean(axis=0))
    assert np.array_equal(raw.routing_vectors(vectors), vectors)


def test_users_without_train_rows_stay_out() -> None:
    vectors, _ = planted()
    rows = np.ones(91)
    rows[[5, 9]] = 0
    vectors[9] = np.nan  # an encoder may leave strangers without a vector
    found = cluster_users(vectors, rows, ExpertsConfig(), generator(1, "c"))
    assert found.assignment[[5, 9]].tolist() == [-1, -1]
    assert sum(found.sizes) == 88
    assert np.isfinite(found.centroids).all()


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_users_outside_the_sample_join_the_nearest_centroid(clustering: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "MAX_CLUSTERED", 40)
    monkeypatch.setattr(partition, "CHUNK", 16)
    vectors, truth = planted()
    found = cluster_users(vectors, np.ones(91), ExpertsConfig(clustering=clustering), generator(1, "clusters"))
    assert found.assignment[1:].tolist() == (1 - truth).tolist()


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_same_seed_same_clusters(clustering: str) -> None:
    vectors = np.random.default_rng(3).normal(size=(201, 8))
    config = ExpertsConfig(count=5, clustering=clustering)
    first, second = (cluster_users(vectors, np.ones(201), config, generator(4, "c")) for _ in range(2))
    assert np.array_equal(first.assignment, second.assignment)
    assert np.array_equal(first.centroids, second.centroids)


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_equal_vectors_have_a_defined_result(clustering: str) -> None:
    found = cluster_users(np.ones((6, 3)), np.ones(6), ExpertsConfig(clustering=clustering), generator(1, "c"))
    assert sum(found.sizes) == 5
    assert found.centroids.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_the_best_silhouette_chooses_the_number_of_clusters(clustering: str) -> None:
    vectors, truth = planted((40, 30, 20))
    config = ExpertsConfig(choose="silhouette", max_count=5, clustering=clustering)
    found = cluster_users(vectors, np.ones(91), config, generator(1, "c"))
    assert found.count == 3
    assert adjusted_rand_score(truth, found.assignment[1:]) == 1.0
    assert list(found.silhouettes) == [2, 3, 4, 5]
    assert found.silhouette == max(found.silhouettes.values())
    again = cluster_users(vectors, np.ones(91), config, generator(1, "c"))
    assert np.array_equal(found.assignment, again.assignment)
    assert found.silhouettes == again.silhouettes


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize("users", [1, 2, 6])
def test_where_no_silhouette_is_defined_there_is_one_cluster(clustering: str, users: int) -> None:
    config = ExpertsConfig(choose="silhouette", clustering=clustering)
    found = cluster_users(np.ones((users + 1, 3)), np.ones(users + 1), config, generator(1, "c"))
    assert (found.sizes, found.silhouette) == ((users,), None)
    with pytest.raises(DataError, match="no user has train rows"):
        cluster_users(np.ones((4, 3)), np.zeros(4), config, generator(1, "c"))


def test_the_silhouette_of_a_sample_is_near_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = planted((400, 300))
    full = cluster_users(vectors, np.ones(701), ExpertsConfig(), generator(1, "c"))
    monkeypatch.setattr(partition, "MAX_SILHOUETTE", 200)
    part = cluster_users(vectors, np.ones(701), ExpertsConfig(), generator(1, "c"))
    assert part.silhouette != full.silhouette
    assert part.silhouette == pytest.approx(full.silhouette, abs=0.03)


def test_partitions_of_ward_are_nested() -> None:
    z = np.random.default_rng(5).normal(size=(150, 6))
    found = dict(partition.partitions(z, range(1, 7), "ward", generator(1, "c")))
    for count in range(1, 6):
        parents = {(int(fine), int(coarse)) for fine, coarse in zip(found[count + 1], found[count], strict=True)}
        assert len(parents) == count + 1  # no group of N + 1 lies in two groups of N


def test_one_cluster_has_everybody_and_no_silhouette() -> None:
    vectors, _ = planted()
    found = cluster_users(vectors, np.ones(91), ExpertsConfig(count=1), generator(1, "c"))
    assert (found.sizes, found.silhouette) == ((90,), None)


@pytest.mark.parametrize("space", ["zscore", "raw"])
def test_one_user_is_a_cluster_of_one(space: str) -> None:
    found = cluster_users([[0.0, 0.0], [3.0, -4.0]], [0, 5], ExpertsConfig(count=1, space=space), generator(1, "c"))
    assert found.assignment.tolist() == [-1, 0]
    assert (found.sizes, found.silhouette) == ((1,), None)
    assert found.centroids.tolist() == [[0, 0] if space == "zscore" else [3, -4]]
    with pytest.raises(DataError, match=r"1 users with train rows for experts\.count 2"):
        cluster_users([[0.0, 0.0], [3.0, -4.0]], [0, 5], ExpertsConfig(count=2), generator(1, "c"))


@pytest.mark.parametrize("space", ["zscore", "raw"])
@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_vectors_of_zeros_are_clustered_and_all_users_go_to_the_general_adapter(clustering: str, space: str) -> None:
    config = ExpertsConfig(count=2, clustering=clustering, space=space)
    found = cluster_users(np.zeros((6, 3)), np.ones(6), config, generator(1, "c"))
    assert (sum(found.sizes), found.centroids.tolist()) == (5, [[0, 0, 0], [0, 0, 0]])
    assert found.std.tolist() == [1, 1, 1]
    weights = gate_weights(cosines(found.routing_vectors(np.zeros((5, 3))), found.centroids), 0.1)
    assert route_weights(weights, RouterConfig()).gates.tolist() == [[1, 0, 0]] * 5


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_equal_vectors_in_raw_space_are_one_group_that_takes_everybody(clustering: str) -> None:
    config = ExpertsConfig(count=2, clustering=clustering, space="raw")
    found = cluster_users(np.ones((6, 3)), np.ones(6), config, generator(1, "c"))
    assert (found.sizes, found.centroids.tolist()) == ((5, 0), [[1, 1, 1], [0, 0, 0]])
    weights = gate_weights(cosines(found.routing_vectors(np.ones((5, 3))), found.centroids), 0.1)
    assert weights[:, 0] == pytest.approx(np.full(5, 1 / (1 + np.exp(-10))))
    routed = route_weights(weights, RouterConfig(), trained=[True, False])  # an empty group has no expert
    assert (routed.route.tolist(), routed.gates.tolist()) == (["single"] * 5, [[0, 1, 0]] * 5)


def refusal(vectors: object, train_rows: object, config: ExpertsConfig, count: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        cluster_users(np.asarray(vectors, float), np.asarray(train_rows), config, generator(1, "c"), count)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_more_clusters_than_users_name_the_field_that_asked_for_them(clustering: str) -> None:
    config = ExpertsConfig(count=3, clustering=clustering)
    assert "2 users with train rows for experts.count 3" in refusal(np.ones((4, 2)), [0, 1, 0, 1], config)
    valid = ExpertsConfig(choose="valid", max_count=3, clustering=clustering)
    assert "2 users with train rows for experts.max_count 3" in refusal(np.ones((4, 2)), [0, 1, 0, 1], valid, 3)
    searched = ExpertsConfig(
        choose="silhouette", max_count=10, clustering=clustering
    )  # only N below the users are tried
    found = cluster_users([[0.0], [1.0], [2.0], [9.0]], [0, 1, 1, 1], searched, generator(1, "c"))
    assert (list(found.silhouettes), found.sizes) == ([2], (2, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_a_vector_that_is_not_finite_is_named(clustering: str, value: float) -> None:
    config = ExpertsConfig(clustering=clustering)
    assert "user 2 is not finite (1 such users)" in refusal([[0.0], [1.0], [value], [2.0]], [0, 1, 1, 1], config)
    padding = cluster_users([[value], [1.0], [2.0]], [0, 1, 1], config, generator(1, "c"))  # row 0 is nobody
    assert padding.sizes == (1, 1)


def test_vectors_and_train_rows_of_other_lengths_are_refused() -> None:
    assert "user vectors" in refusal(np.ones((4, 2)), [1, 1], ExpertsConfig())
