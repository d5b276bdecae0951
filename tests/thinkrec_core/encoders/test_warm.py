"""A warm start takes over what it knows, under another numbering, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.examples import Examples, Sizes
from thinkrec_core.encoders.registry import build_encoder
from thinkrec_core.encoders.warm import Trained
from thinkrec_core.errors import DataError


def built(users: int, items: int, seed: int, size: int = 3, kind: str = "mf") -> torch.nn.Module:
    draw = np.random.default_rng(seed)
    rows = 4 * users
    train = Examples(
        user_idx=np.tile(np.arange(1, users + 1), 4),
        item_idx=draw.integers(1, items + 1, rows),
        label=draw.integers(0, 2, rows),
        history_offsets=np.zeros(rows + 1, np.int64),
        history_items=np.zeros(0, np.int64),
        history_labels=np.zeros(0, np.int64),
    )
    config = EncoderConfig(kind=kind, embedding_size=size)
    return build_encoder(config, Sizes(users, items), train, torch.Generator().manual_seed(seed))


def test_rows_of_known_users_and_items_are_taken_over_and_others_stay() -> None:
    old, new = built(3, 2, seed=1), built(4, 3, seed=2)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    users, items = np.array([0, 3, 0, 1, 2]), np.array([0, 2, 1, 0])
    Trained(old.state_dict(), users, items).copy_into(new)  # type: ignore[arg-type]
    for name, side in (("user_table", users), ("user_bias", users), ("item_table", items), ("item_bias", items)):
        for row, earlier in enumerate(side):
            expected = old.state_dict()[name][earlier] if earlier else before[name][row]
            assert torch.equal(new.state_dict()[name][row], expected), (name, row)
    assert torch.equal(new.state_dict()["mu"], old.state_dict()["mu"])


@pytest.mark.parametrize("kind", ["lightgcn", "sasrec", "din", "dcn"])
def test_every_encoder_has_its_parameters_taken_over(kind: str) -> None:
    old, new = built(5, 4, 1, 4, kind), built(5, 4, 2, 4, kind)
    Trained(old.state_dict(), np.arange(6), np.arange(5)).copy_into(new)  # type: ignore[arg-type]
    for (name, one), (_, other) in zip(old.named_parameters(), new.named_parameters(), strict=True):
        skip = 1 if name in ("user_table", "item_table", "user_bias", "item_bias") else 0  # the padding row is no user
        assert torch.equal(one[skip:], other[skip:]), name


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match=r"weight user_table of the earlier encoder has shape \(4, 2\)"):
        Trained(built(3, 2, 1, 2).state_dict(), np.arange(4), np.arange(3)).copy_into(built(3, 2, 1, 3))  # type: ignore[arg-type]
