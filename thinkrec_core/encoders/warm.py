"""A warm start: the weights of an earlier encoder under another numbering of users and items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from thinkrec_core.encoders.base import Encoder
from thinkrec_core.errors import DataError


@dataclass(frozen=True)
class Trained:
    """An earlier encoder and who is who in it."""

    weights: Mapping[str, Tensor]
    """Its state_dict."""
    users: npt.NDArray[np.int64]
    """(U+1,) its user_idx of each user of the new data; 0 where it knows none, and at the padding index."""
    items: npt.NDArray[np.int64]
    """(I+1,) its item_idx of each item, likewise."""

    @torch.no_grad()
    def copy_into(self, encoder: Encoder) -> None:
        """Replace the parameters of `encoder`: of tables (user_..., item_...) the rows of known users and items, all others whole.

        Rows of unknown users and items stay as they were drawn. Buffers, which describe the new rows, stay too.

        Raises:
            DataError: a parameter is missing or has another shape.
        """
        for name, parameter in encoder.named_parameters():
            saved = self.weights.get(name)
            side = {"user": self.users, "item": self.items}.get(name.partition("_")[0])
            table = side is not None and len(parameter) == len(side)
            if saved is None or saved.shape[table:] != parameter.shape[table:]:
                found = "is missing" if saved is None else f"has shape {tuple(saved.shape)}"
                raise DataError(
                    f"weight {name} of the earlier encoder {found}",
                    f"that of {tuple(parameter.shape)}",
                    "train it anew",
                )
            if side is not None and table:
                known = torch.from_numpy(np.flatnonzero(side))
                parameter[known] = saved[torch.from_numpy(side)[known]].to(parameter.dtype)
            else:
                parameter.copy_(saved)
