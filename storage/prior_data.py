"""The fitted prior beside an encoder's files: prior.safetensors, and its logits on every row as prior_{split}.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from storage.schemas import ENCODER_SCORES
from storage.tables import write_table
from thinkrec_core.encoders.prior import Prior
from thinkrec_core.errors import StoreError

PRIOR = "prior.safetensors"


def write_prior(folder: Path, prior: Prior, logits: Mapping[str, npt.NDArray[np.float64]]) -> None:
    """Write `prior` and its logits by split into `folder`."""
    save_file(prior.arrays, folder / PRIOR)
    for split, values in logits.items():
        columns = {"row": np.arange(len(values), dtype=np.int32), "logit": values.astype(np.float32)}
        write_table(folder / f"prior_{split}.parquet", columns, ENCODER_SCORES)


def read_prior(folder: Path) -> Prior:
    """The prior in `folder`.

    Raises:
        StoreError: it is missing or damaged.
    """
    try:
        return Prior.restored(load_file(folder / PRIOR))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / PRIOR} cannot be read ({error})", "the file of stage prior", "run again") from None
