"""From a configuration to an untrained encoder, and from saved tensors back to a trained one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.base import Encoder
from thinkrec_core.encoders.dcn import DCN
from thinkrec_core.encoders.din import DIN
from thinkrec_core.encoders.examples import Examples, Likes, Sizes
from thinkrec_core.encoders.lightgcn import LightGCN
from thinkrec_core.encoders.mf import MatrixFactorisation
from thinkrec_core.encoders.own import own_encoder
from thinkrec_core.encoders.sasrec import SASRec
from thinkrec_core.errors import DataError
from thinkrec_core.evaluation.floors import TrainRows, main_effects

ENCODERS: dict[str, type[Encoder]] = {
    "mf": MatrixFactorisation,
    "lightgcn": LightGCN,
    "sasrec": SASRec,
    "din": DIN,
    "dcn": DCN,
}
START_TOLERANCE = 1e-3
"""Accuracy of the main effects, in logits, that training starts from; it moves them further than that."""


def build_encoder(config: EncoderConfig, sizes: Sizes, train: Examples, generator: torch.Generator) -> Encoder:
    """An untrained encoder of `config.kind`.

    Users and items without train rows start at zero and receive no gradient, so that they keep exactly what the model
    can say about them: no interaction under MF, and no main effect of their own. Main effects start at the ridge
    solution of the bias model on `train`: from zero, Adam needs most of its epochs to find them.

    Args:
        train: its likes are the graph of LightGCN and the user histories of SASRec.
        generator: draws the initial weights, and later the dropout masks.

    Raises:
        ConfigError: an encoder of the user's own cannot be imported.
    """
    liked = train.label == 1
    likes = Likes(
        torch.from_numpy(np.stack([train.user_idx[liked], train.item_idx[liked]]).astype(np.int32)),
        torch.from_numpy(train.last_likes(sizes.users, config.max_length)),
    )
    encoder = _class_of(config).from_config(config, sizes, likes, generator)
    with torch.no_grad():
        for name, index, size in (
            ("user_table", train.user_idx, sizes.users),
            ("item_table", train.item_idx, sizes.items),
        ):
            if hasattr(encoder, name):
                getattr(encoder, name)[torch.from_numpy(np.bincount(index, minlength=size + 1) == 0)] = 0.0
        if config.biases:
            rows = TrainRows(train.user_idx, train.item_idx, train.label)
            effects = main_effects(rows, sizes.users + 1, sizes.items + 1, tolerance=START_TOLERANCE)
            encoder.mu.fill_(effects.mu)
            encoder.user_bias.copy_(torch.from_numpy(effects.user))
            encoder.item_bias.copy_(torch.from_numpy(effects.item))
    return encoder


def restore_encoder(config: EncoderConfig, tensors: Mapping[str, Tensor]) -> Encoder:
    """The trained encoder whose `state_dict` is `tensors`, in eval mode.

    Raises:
        DataError: the tensors are not those of an encoder of this configuration.
    """
    try:
        sizes = Sizes(len(tensors["user_bias"]) - 1, len(tensors["item_bias"]) - 1)
        likes = Likes(
            tensors.get("edges_2E", torch.zeros(2, 0, dtype=torch.int32)),
            tensors.get("user_histories_UL", torch.zeros(sizes.users + 1, config.max_length, dtype=torch.int64)),
        )
        encoder = _class_of(config).from_config(config, sizes, likes, torch.Generator())
        encoder.load_state_dict(dict(tensors))
    except (KeyError, RuntimeError) as error:
        raise DataError(
            f"saved tensors are not those of a {config.kind} encoder of size {config.embedding_size} ({error})",
            "the weights of the same encoder settings",
            "train the encoder anew",
        ) from None
    return encoder.eval()


def _class_of(config: EncoderConfig) -> type[Encoder]:
    return ENCODERS[config.kind] if config.kind in ENCODERS else own_encoder(config.kind)
