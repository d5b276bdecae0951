"""Hidden states below the trained layers, computed once per sample and kept on disk within a limit (stage 3 of the method).

An expert trains the last layers only, so from its second epoch on a sample need not run through the lower ones again. They run
without dropout, as everything frozen does, so that the loss curve is the same with and without the cache.

The last bits of a sample's states depend on the batch that they were computed in. So the samples of a batch come into one file,
all or none of them: a training that was cut off goes on to the same weights, wherever its writing ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from thinkrec_core.recllm.examples import Batch, BatchKind, Example, collate
from thinkrec_core.recllm.model import RecLLM

GIGABYTE = 10**9
FILE = ".safetensors"


class HiddenCache:
    """Hidden states after the lowest `depth` layers, in the body's type: a file per batch, and a link to it per sample and kind.

    Args:
        folder: holds the files; it belongs to one training, whose model and prompts are fixed.
        limit_gb: size in 10^9 bytes from which on nothing more is written; samples without a file are computed each time.
    """

    def __init__(self, folder: Path, model: RecLLM, depth: int, pad_id: int, limit_gb: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._model, self.depth, self._pad_id = folder, model, depth, pad_id
        self._limit, self._used = limit_gb * GIGABYTE, 0
        for path in sorted(folder.glob(f"*{FILE}")):
            names = _names(path)
            self._link(path, names)  # whoever was cut off may not have come so far
            self._used += path.stat().st_size if names else 0
        self.hits = 0
        """Samples that were read and not computed."""

    def __call__(self, examples: Sequence[Example], kind: BatchKind, batch: Batch) -> torch.Tensor:
        """(B, T, H) hidden states of `batch`, which was made of `examples`; 0 where it is padded."""
        names = [f"{kind}-{example.row}" for example in examples]
        found = [self._read(name) for name in names]
        missing = [place for place, hidden in enumerate(found) if hidden is None]
        self.hits += len(examples) - len(missing)
        if missing:
            part = collate([examples[place] for place in missing], self._pad_id, self._model.projector.n_tokens)
            made_BTH = self._model.lower(part.to(batch.input_ids_BT.device), self.depth)
            for place, hidden_TH, mask_T in zip(missing, made_BTH, part.attention_mask_BT, strict=True):
                found[place] = hidden_TH[: int(mask_T.sum())]
            self._write({names[place]: hidden for place in missing if (hidden := found[place]) is not None})
        # Right padding: what stands there reaches no answer position, since attention looks back only.
        return torch.nn.utils.rnn.pad_sequence(
            [hidden.to(batch.input_ids_BT.device) for hidden in found if hidden is not None], batch_first=True
        )

    def _read(self, name: str) -> torch.Tensor | None:
        try:
            with safe_open(self._folder / name, "pt") as file:
                return file.get_tensor(name)
        except (OSError, SafetensorError):
            return None  # not computed yet, or damaged: computed again

    def _write(self, states: Mapping[str, torch.Tensor]) -> None:
        if self._used + sum(hidden.numel() * hidden.element_size() for hidden in states.values()) > self._limit:
            return
        path = self._folder / f"{next(iter(states))}{FILE}"
        partial = path.with_suffix(f".{os.getpid()}.partial")  # ranks share the folder
        save_file({name: hidden.detach().cpu().contiguous() for name, hidden in states.items()}, partial)
        partial.replace(path)
        self._used += path.stat().st_size
        self._link(path, states)

    def _link(self, path: Path, names: Iterable[str]) -> None:
        for name in names:
            link = self._folder / name
            if not link.is_symlink() or link.readlink() != Path(path.name):
                partial = link.with_suffix(f".{os.getpid()}.partial")
                partial.unlink(missing_ok=True)
                partial.symlink_to(path.name)
                partial.replace(link)


def _names(path: Path) -> list[str]:
    """The samples in a file; none where it is damaged, and then it is removed."""
    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (FileNotFoundError, SafetensorError):  # another rank may have been first
        path.unlink(missing_ok=True)
        return []
