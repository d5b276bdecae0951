"""An encoder of the user's own, named by its import path `package.module:Class`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from thinkrec_core.errors import ConfigError

if TYPE_CHECKING:
    from thinkrec_core.encoders.base import Encoder


def own_encoder(path: str) -> type[Encoder]:
    """The class at `path`.

    Raises:
        ConfigError: it cannot be imported, or is no subclass of `thinkrec_core.encoders.base.Encoder`.
    """
    from thinkrec_core.encoders.base import Encoder

    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(
            f"encoder {path} cannot be imported ({type(error).__name__}: {error})",
            "a module that Python finds",
            "install it, or put its folder on PYTHONPATH",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Encoder)):
        raise ConfigError(
            f"encoder {path} is {'not there' if found is None else f'{found!r}'}",
            "a subclass of thinkrec_core.encoders.base.Encoder",
            "correct encoder.kind",
        )
    return found


def source_digest(path: str) -> str:
    """sha256 of the source file of the class at `path`: a changed encoder is trained anew. Imports only parent packages.

    Raises:
        ConfigError: there is no such file.
    """
    module = path.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(module)
        return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    except (ImportError, OSError, ValueError) as error:
        raise ConfigError(
            f"encoder {path} cannot be found ({error})",
            "a module that Python finds",
            "install it, or put its folder on PYTHONPATH",
        ) from None
