"""Training of an encoder: pointwise BCE on 0/1 labels, Adam with coupled L2, the epoch of the best valid AUC."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.base import Batch, Encoder
from thinkrec_core.encoders.examples import Examples, Sizes
from thinkrec_core.encoders.registry import build_encoder
from thinkrec_core.encoders.warm import Trained
from thinkrec_core.errors import TrainingError
from thinkrec_core.evaluation.auc import auc
from thinkrec_core.seeds import derived_seed

SCORING_ROWS = 16384
"""Rows per batch where no gradient is needed."""


@dataclass(frozen=True)
class Epoch:
    """The figures of one pass over the train rows; epoch 0 is the start, before any step."""

    epoch: int
    loss: float | None
    """Mean BCE over the train rows while they were trained on; None at epoch 0."""
    valid_auc: float
    valid_log_loss: float


@dataclass(frozen=True)
class FittedEncoder:
    """A trained encoder, in eval mode, with the weights of its best epoch."""

    encoder: Encoder
    epochs: tuple[Epoch, ...]
    best_epoch: int

    @property
    def best(self) -> Epoch:
        """The figures of the best epoch."""
        return self.epochs[self.best_epoch]


Progress = Callable[[Epoch], None]


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside; as many as before outside.

    The kernels here take microseconds: a second thread brings nothing on a quiet machine and costs five times the time
    on a busy one, and sums would depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def fit_encoder(
    config: EncoderConfig,
    train: Examples,
    valid: Examples,
    sizes: Sizes,
    seed: int,
    progress: Progress | None = None,
    start: Trained | None = None,
) -> FittedEncoder:
    """The encoder of `config` fitted on `train` and selected on `valid`.

    The start counts as epoch 0: with biases it is the bias model, and a fit that never beats it returns it. Training
    ends after `config.epochs` epochs, or `config.patience` epochs without a better valid AUC; of equal AUCs the earliest
    epoch wins. A valid split of one class, which has no AUC, is judged by its log-loss.

    Args:
        seed: initial weights, shuffling and dropout derive from it; equal inputs give equal weights.
        progress: called after each epoch.
        start: an earlier encoder whose weights the fit starts from, where it knows user or item.

    Raises:
        TrainingError: a loss is not finite.
        DataError: `start` is an encoder of other settings.
    """
    encoder, generator = _start(config, train, sizes, seed, "full")
    if start is not None:
        start.copy_into(encoder)
    trainer = _Trainer(config, encoder, train, generator)
    epochs = [_validate(encoder, valid, 0, None)]
    best, state = 0, _copy(encoder)
    for number in range(1, config.epochs + 1):
        epochs.append(_validate(encoder, valid, number, trainer.epoch()))
        if progress:
            progress(epochs[-1])
        if _quality(epochs[-1]) > _quality(epochs[best]):
            best, state = number, _copy(encoder)
        elif number - best >= config.patience:
            break
    encoder.load_state_dict(state)
    return FittedEncoder(encoder.eval(), tuple(epochs), best)


@one_thread()
def fit_epochs(config: EncoderConfig, train: Examples, sizes: Sizes, epochs: int, seed: int, name: str) -> Encoder:
    """The encoder of `config` after exactly `epochs` epochs on `train`, in eval mode.

    Args:
        name: of this fit among those under `seed`, so that each draws its own numbers.

    Raises:
        TrainingError: a loss is not finite.
    """
    encoder, generator = _start(config, train, sizes, seed, name)
    trainer = _Trainer(config, encoder, train, generator)
    for _ in range(epochs):
        trainer.epoch()
    return encoder.eval()


@one_thread()
@torch.no_grad()
def score_examples(encoder: Encoder, examples: Examples) -> npt.NDArray[np.float32]:
    """(R,) logits of `examples`, without dropout."""
    encoder.eval()
    batches = _batches(_tensors(encoder, examples), torch.arange(len(examples)), SCORING_ROWS)
    scores = [encoder.score(batch) for batch, _ in batches]
    return torch.cat(scores).numpy() if scores else np.zeros(0, np.float32)


class _Trainer:
    """Adam over one encoder and one set of rows."""

    def __init__(self, config: EncoderConfig, encoder: Encoder, train: Examples, generator: torch.Generator) -> None:
        self._encoder, self._generator, self._batch_size = encoder, generator, config.batch_size
        self._tensors = _tensors(encoder, train)
        self._optimiser = torch.optim.Adam(
            encoder.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def epoch(self) -> float:
        """One pass over the rows in a new random order; returns the mean loss."""
        self._encoder.train()
        total, rows = 0.0, len(self._tensors.users)
        order = torch.randperm(rows, generator=self._generator)
        for batch, labels_B in _batches(self._tensors, order, self._batch_size):
            loss = functional.binary_cross_entropy_with_logits(self._encoder.score(batch), labels_B)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._optimiser.step()
            total += loss.item() * len(labels_B)
        if not math.isfinite(total):
            raise TrainingError(f"encoder loss is {total}", "a finite loss", "lower encoder.learning_rate")
        return total / rows


@dataclass(frozen=True)
class _Tensors:
    users: Tensor
    items: Tensor
    labels: Tensor
    histories: Tensor


def _tensors(encoder: Encoder, examples: Examples) -> _Tensors:
    return _Tensors(
        torch.from_numpy(examples.user_idx),
        torch.from_numpy(examples.item_idx),
        torch.from_numpy(examples.label.astype(np.float32)),
        torch.from_numpy(examples.liked_histories(encoder.history_length)),
    )


def _batches(tensors: _Tensors, order: Tensor, size: int) -> list[tuple[Batch, Tensor]]:
    """Batches of `size` rows in `order`, each with its labels; one gather per column for the whole pass."""
    columns = (tensors.users[order], tensors.items[order], tensors.histories[order], tensors.labels[order])
    parts = zip(*(column.split(size) for column in columns), strict=True)
    return [(Batch(users, items, histories), labels) for users, items, histories, labels in parts]


def _start(
    config: EncoderConfig, train: Examples, sizes: Sizes, seed: int, name: str
) -> tuple[Encoder, torch.Generator]:
    generator = torch.Generator().manual_seed(derived_seed(seed, "encoder", name))
    return build_encoder(config, sizes, train, generator), generator


def _validate(encoder: Encoder, valid: Examples, epoch: int, loss: float | None) -> Epoch:
    logits = score_examples(encoder, valid).astype(np.float64)
    log_loss = float(np.mean(np.logaddexp(0.0, logits) - valid.label * logits))
    if not math.isfinite(log_loss):
        raise TrainingError(f"encoder log-loss on valid is {log_loss}", "finite", "lower encoder.learning_rate")
    found = auc(logits, valid.label)
    return Epoch(epoch, loss, math.nan if found is None else found, log_loss)


def _quality(epoch: Epoch) -> float:
    return -epoch.valid_log_loss if math.isnan(epoch.valid_auc) else epoch.valid_auc


def _copy(encoder: Encoder) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in encoder.state_dict().items()}
