"""Where the teacher is and with which key, read once from configuration and environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.errors import TeacherError

LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server.

    Attributes:
        base_url: URL up to /v1.
        wire_model: the model name that the server wants to hear.
        key: the secret; in no repr, log or message.
    """

    base_url: str
    wire_model: str
    key: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        """Host and port, without user info: what may be shown."""
        parts = urlsplit(self.base_url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    @property
    def shown_url(self) -> str:
        """The URL without user info and query."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{self.host}{parts.path}"

    @property
    def is_local(self) -> bool:
        """True where requests stay on this machine."""
        return urlsplit(self.base_url).hostname in LOCAL_HOSTS

    def redacted(self, text: str) -> str:
        """`text` without the key: servers like to quote it in their refusals."""
        return text.replace(self.key, "[key]") if self.key else text


def remote_endpoint(config: TeacherConfig, environment: Mapping[str, str]) -> Endpoint:
    """The endpoint that `config` names.

    Raises:
        TeacherError: base_url is no http(s) URL, or the environment lacks the key and the host is not this machine.
    """
    parts = urlsplit(config.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TeacherError(
            f"teacher.base_url {config.base_url!r} is no URL",
            '"local", "journal" or http(s)://HOST/v1',
            "set teacher.base_url",
        )
    endpoint = Endpoint(config.base_url, config.model, environment.get(config.api_key_env, "").strip())
    if not endpoint.key and not endpoint.is_local:
        raise TeacherError(
            f"environment variable {config.api_key_env} is not set",
            f"the key for {endpoint.host}",
            f"export {config.api_key_env}=... or name another variable in teacher.api_key_env",
        )
    return endpoint
