"""What the key of a stage that trains an encoder holds: its settings, and the source of an encoder of the user's own."""

from __future__ import annotations

from typing import Any

from thinkrec_core.config.encoder import EncoderConfig
from thinkrec_core.encoders.own import source_digest


def encoder_settings(config: EncoderConfig) -> dict[str, Any]:
    """Settings of `config` for the key of a stage.

    Raises:
        ConfigError: the module of the user's own encoder cannot be found.
    """
    return {"encoder": config} | ({"encoder_source": source_digest(config.kind)} if config.is_own else {})
