"""Hidden states below the trained layers, computed once per sample and kept on disk within a limit (stage 3 of the method).

An expert trains the last layers only, so from its second epoch on a sample need not run through the lower ones again. They run
without dropout, as everything frozen does, so that the loss curve is the same with and without the cache.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from thinkrec_core.recllm.examples import Batch, BatchKind, Example, collate
from thinkrec_core.recllm.model import RecLLM

GIGABYTE = 10**9


class HiddenCache:
    """Hidden states after the lowest `depth` layers, in the body's type, one file per sample and kind.

    Args:
        folder: holds the files; it belongs to one training, whose model and prompts are fixed.
        limit_gb: size in 10^9 bytes from which on nothing more is written; samples without a file are computed each time.
    """

    def __init__(self, folder: Path, model: RecLLM, depth: int, pad_id: int, limit_gb: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._model, self.depth, self._pad_id = folder, model, depth, pad_id
        self._limit = limit_gb * GIGABYTE
        self._used = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        self.hits = 0
        """Samples that were read and not computed."""

    def __call__(self, examples: Sequence[Example], kind: BatchKind, batch: Batch) -> torch.Tensor:
        """(B, T, H) hidden states of `batch`, which was made of `examples`; 0 where it is padded."""
        found = [self._read(example, kind) for example in examples]
        missing = [place for place, hidden in enumerate(found) if hidden is None]
        self.hits += len(examples) - len(missing)
        if missing:
            part = collate([examples[place] for place in missing], self._pad_id, self._model.projector.n_tokens)
            made_BTH = self._model.lower(part.to(batch.input_ids_BT.device), self.depth)
            for place, hidden_TH, mask_T in zip(missing, made_BTH, part.attention_mask_BT, strict=True):
                found[place] = hidden_TH[: int(mask_T.sum())]
                self._write(examples[place], kind, found[place])
        # Right padding: what stands there reaches no answer position, since attention looks back only.
        return torch.nn.utils.rnn.pad_sequence(
            [hidden.to(batch.input_ids_BT.device) for hidden in found if hidden is not None], batch_first=True
        )

    def _path(self, example: Example, kind: BatchKind) -> Path:
        return self._folder / f"{kind}-{example.row}.safetensors"

    def _read(self, example: Example, kind: BatchKind) -> torch.Tensor | None:
        path = self._path(example, kind)
        if not path.is_file():
            return None
        try:
            return load_file(path)["hidden"]
        except (OSError, SafetensorError, KeyError):
            path.unlink(missing_ok=True)  # half a file after a power cut: computed again
            return None

    def _write(self, example: Example, kind: BatchKind, hidden_TH: torch.Tensor | None) -> None:
        assert hidden_TH is not None
        size = hidden_TH.numel() * hidden_TH.element_size()
        if self._used + size > self._limit:
            return
        path = self._path(example, kind)
        partial = path.with_suffix(f".{os.getpid()}.partial")  # ranks share the folder
        save_file({"hidden": hidden_TH.detach().cpu().contiguous()}, partial)
        partial.replace(path)
        self._used += size
