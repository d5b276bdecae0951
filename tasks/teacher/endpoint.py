"""Where the teacher is and with which keys, read once from configuration and environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from thinkrec_core.config.reflections import HEADER_VARIABLE, TeacherConfig
from thinkrec_core.errors import TeacherError

SHORTEST_SECRET = 8
"""Characters; a shorter "key" such as EMPTY guards nothing, and might be a word of an answer."""
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server.

    Attributes:
        base_url: URL up to /v1.
        wire_model: the model name that the server wants to hear.
        keys: the secrets, used in turn; in no repr, log or message.
        headers: sent with every request.
        secrets: what of the headers came from the environment.
        body: fields added to every request.
        ca_bundle: PEM file of trusted certificates; None trusts the usual ones.
    """

    base_url: str
    wire_model: str
    keys: tuple[str, ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    body: Mapping[str, Any] = field(default_factory=dict)
    ca_bundle: Path | None = None

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
        """`text` without keys and other secrets: servers like to quote them in their refusals."""
        for secret in sorted({*self.keys, *self.secrets}, key=len, reverse=True):
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "[key]")
        return text


def remote_endpoint(config: TeacherConfig, environment: Mapping[str, str]) -> Endpoint:
    """The endpoint that `config` names.

    Raises:
        TeacherError: base_url is no http(s) URL, the environment lacks a key and the host is not this machine, it lacks a
            variable of a header, or ca_bundle is no file.
    """
    parts = urlsplit(config.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TeacherError(
            f"teacher.base_url {config.base_url!r} is no URL",
            '"local", "journal" or http(s)://HOST/v1',
            "set teacher.base_url",
        )
    bundle = Path(config.ca_bundle).expanduser() if config.ca_bundle else None
    if bundle is not None and not bundle.is_file():
        raise TeacherError(f"teacher.ca_bundle {config.ca_bundle!r} is no file", "a PEM file of certificates")
    endpoint = Endpoint(
        base_url=config.base_url,
        wire_model=config.model,
        keys=_keys(config, environment),
        headers=_headers(config, environment),
        secrets=tuple(environment[name].strip() for name in _header_names(config)),
        body=config.extra_body,
        ca_bundle=bundle,
    )
    if not endpoint.is_local:
        for name in _key_names(config):
            if not environment.get(name, "").strip(" ,"):
                raise TeacherError(
                    f"environment variable {name} is not set",
                    f"the key for {endpoint.host}",
                    f"export {name}=... or name another variable in teacher.api_key_env",
                )
    return endpoint


def without_secrets(config: TeacherConfig, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`environment` without keys and the variables of headers: what other programs may see."""
    hidden = {*_key_names(config), *_header_names(config)}
    return {name: value for name, value in environment.items() if name not in hidden}


def _key_names(config: TeacherConfig) -> list[str]:
    return [name.strip() for name in config.api_key_env.split(",") if name.strip()]


def _header_names(config: TeacherConfig) -> list[str]:
    return [name for template in config.extra_headers.values() for name in HEADER_VARIABLE.findall(template)]


def _keys(config: TeacherConfig, environment: Mapping[str, str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for name in _key_names(config):
        for key in environment.get(name, "").split(","):
            if key.strip():
                _refuse_unsendable(key.strip(), f"a key in environment variable {name}")
                found[key.strip()] = None
    return tuple(found)


def _headers(config: TeacherConfig, environment: Mapping[str, str]) -> dict[str, str]:
    headers = {}
    for header, template in config.extra_headers.items():
        for name in HEADER_VARIABLE.findall(template):
            if not environment.get(name, "").strip():
                raise TeacherError(
                    f"environment variable {name} is not set",
                    f"the value of header {header} (teacher.extra_headers)",
                    f"export {name}=...",
                )
        headers[header] = HEADER_VARIABLE.sub(lambda match: environment[match.group(1)].strip(), template)
        _refuse_unsendable(headers[header], f"header {header}")
    return headers


def _refuse_unsendable(value: str, what: str) -> None:
    # The HTTP library would quote the whole value in its complaint.
    if not (value.isascii() and value.isprintable()):
        raise TeacherError(f"{what} holds characters that no HTTP header can carry", "printable ASCII", "copy it anew")
