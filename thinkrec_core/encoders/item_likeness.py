"""What train rows say of items beside their own labels: which items the same users rate, and what content lets expect."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thinkrec_core.encoders.content import ItemContent
from thinkrec_core.encoders.examples import IntArray, Sizes
from thinkrec_core.evaluation.checks import FloatArray

DAMPING = 5.0
"""Added to the rows of a user and of an item, so that a pair of rare ones does not weigh most."""
RIDGE = 3.0
ROWS_OF_CONTENT = 4.0
"""What content lets expect of an item counts as much as so many of its train rows."""


def rated_together(
    users: IntArray, items: IntArray, sizes: Sizes, dimensions: int, seed: int
) -> npt.NDArray[np.float32]:
    """(I+1, D) vectors of length 1, near each other where the same users rate two items; 0 for items without rows.

    The right singular vectors, times their values, of the user-item matrix with 1 / sqrt((n_u + 5) (n_i + 5)) where a user
    rated an item. Labels play no part, so the vectors cannot carry them. D is `dimensions`, or less where there are
    fewer users or items.

    Args:
        users: (R,) 1..U of the train rows.
        items: (R,) 1..I.
        seed: draws the start of the decomposition.
    """
    from scipy.sparse import csr_matrix
    from sklearn.utils.extmath import randomized_svd

    shape = sizes.users + 1, sizes.items + 1
    of_user, of_item = np.bincount(users, minlength=shape[0]), np.bincount(items, minlength=shape[1])
    weight = 1.0 / np.sqrt((of_user[users] + DAMPING) * (of_item[items] + DAMPING))
    matrix = csr_matrix((weight, (users, items)), shape=shape)
    _, values, right = randomized_svd(matrix, min(dimensions, *shape), n_iter=5, random_state=seed % 2**32)
    vectors = right.T * values
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    known = (length > 0) & (of_item[:, None] > 0)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=known).astype(np.float32)


def expected_effect(content: ItemContent, effect: FloatArray, count: IntArray) -> FloatArray:
    """(I+1,) the effect that genres and release decade let expect of an item: ridge regression over items, weights n / (n + 4).

    Args:
        effect: (I+1,) fitted effects.
        count: (I+1,) n, the train rows behind them.
    """
    decade = content.decade
    columns = np.hstack([content.genres, np.eye(int(decade.max()) + 1)[decade], np.ones((len(effect), 1))])
    weighted = columns * (count / (count + ROWS_OF_CONTENT))[:, None]
    return columns @ np.linalg.solve(columns.T @ weighted + RIDGE * np.eye(columns.shape[1]), weighted.T @ effect)


def towards_expected(effect: FloatArray, expected: FloatArray, count: IntArray) -> FloatArray:
    """(...,) effects of items drawn towards what is expected of them, the more the fewer rows they have."""
    return (count * effect + ROWS_OF_CONTENT * expected) / (count + ROWS_OF_CONTENT)
