"""One named random generator per purpose, so that adding a draw in one place changes no other.

Randomness enters every function of thinkrec_core as a generator argument; nothing touches global seeds.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derived_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the purpose `names` under the run's `seed`; the same on every platform and Python version."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for the purpose `names` under the run's `seed`."""
    return np.random.default_rng(derived_seed(seed, *names))
