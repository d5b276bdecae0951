"""Company endpoints: keys, headers, fields and certificates of one's own, and what of them may be seen."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tasks.teacher.client import Answer, TeacherClient
from tasks.teacher.conversations import Asking
from tasks.teacher.endpoint import Endpoint, remote_endpoint, without_secrets
from tests.chat_replies import completion
from thinkrec_core.config.reflections import TeacherConfig
from thinkrec_core.errors import TeacherError

MESSAGES = [{"role": "user", "content": "Yes or No?"}]
SECRETS = {"A_KEY": "sk-planted-a1, sk-planted-a2,", "B_KEY": " sk-planted-b1 ", "GATE": "planted-gateway-token"}


def asked(url: str, **config: Any) -> tuple[Answer, Endpoint]:
    teacher = TeacherConfig(base_url=url, model="m", attempts=1, **config)
    endpoint = remote_endpoint(teacher, SECRETS)

    async def run() -> Answer:
        async with TeacherClient(endpoint, teacher) as client:
            return await client.ask(messages=MESSAGES, max_tokens=9)

    return asyncio.run(run()), endpoint


def test_headers_and_fields_of_the_configuration_go_out_with_every_request(httpserver: HTTPServer) -> None:
    seen: list[Request] = []

    def handle(request: Request) -> Response:
        seen.append(request)
        return completion("Yes. Because.", 1, 1)

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
    headers = {"X-Team": "recommenders", "X-Gateway-Token": "Token ${GATE}"}
    body = {"chat_template_kwargs": {"enable_thinking": True}}
    asked(httpserver.url_for("/v1"), extra_headers=headers, extra_body=body, api_key_env="B_KEY")
    assert seen[0].headers["X-Team"] == "recommenders"
    assert seen[0].headers["X-Gateway-Token"] == "Token planted-gateway-token"
    assert seen[0].headers["Authorization"] == "Bearer sk-planted-b1"
    sent = json.loads(seen[0].get_data())
    assert sent == {"model": "m", "messages": MESSAGES, "max_tokens": 9, **body}


def test_fields_of_the_body_are_part_of_the_key_and_headers_are_not() -> None:
    def key(**config: Any) -> str:
        return Asking(TeacherConfig(model="m", **config), "m", 1).key({"messages": []}, 1)

    assert key() == key(
        extra_headers={"X-Team": "a"}, ca_bundle="x", api_key_env="OTHER", prices={"m": {"input": 1, "output": 1}}
    )
    assert key() != key(extra_body={"reasoning_effort": "high"})


def test_keys_come_from_several_variables_and_from_lists() -> None:
    endpoint = remote_endpoint(TeacherConfig(base_url="https://host/v1", api_key_env="A_KEY, B_KEY"), SECRETS)
    assert endpoint.keys == ("sk-planted-a1", "sk-planted-a2", "sk-planted-b1")


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"api_key_env": "A_KEY,MISSING"}, "environment variable MISSING is not set; expected the key for host"),
        (
            {"api_key_env": "A_KEY", "extra_headers": {"X-Token": "${NOWHERE}"}},
            "environment variable NOWHERE is not set",
        ),
        ({"api_key_env": "A_KEY", "ca_bundle": "/nowhere.pem"}, "teacher.ca_bundle '/nowhere.pem' is no file"),
        ({"api_key_env": "TORN"}, "a key in environment variable TORN holds characters that no HTTP header can carry"),
    ],
)
def test_what_is_missing_or_torn_is_told_without_the_secret(config: dict[str, Any], told: str) -> None:
    environment = {**SECRETS, "TORN": "sk-planted\nb2"}
    with pytest.raises(TeacherError) as caught:
        remote_endpoint(TeacherConfig(base_url="https://host/v1", **config), environment)
    assert told in str(caught.value)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "cookie", "X-Gateway-Token"])
def test_a_secret_written_into_a_header_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=r"may hold a secret: write \$\{NAME\}"):
        TeacherConfig(extra_headers={name: "Bearer abc"})


@pytest.mark.parametrize("name", ["model", "messages", "stream", "max_tokens", "seed"])
def test_fields_of_the_dialogue_cannot_be_replaced(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} cannot be set here"):
        TeacherConfig(extra_body={name: 1})


def test_a_spending_limit_without_a_price_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_run_cost needs the price of 'm' in prices"):
        TeacherConfig(model="m", max_run_cost=1.0, prices={"other": {"input": 1, "output": 1}})


def test_secrets_show_in_no_repr_and_reach_no_child() -> None:
    config = TeacherConfig(
        base_url="https://host/v1", api_key_env="A_KEY,B_KEY", extra_headers={"X-Token": "${GATE}", "X-Team": "a"}
    )
    endpoint = remote_endpoint(config, SECRETS)
    assert "planted" not in repr(endpoint) + str(endpoint) + repr(config)
    said = "your sk-planted-a2 behind planted-gateway-token of team a"
    assert endpoint.redacted(said) == "your [key] behind [key] of team a"
    assert without_secrets(config, {**SECRETS, "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, as a company's own authority would have issued it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    path.write_bytes(certificate.public_bytes(pem) + private)
    return path


@pytest.fixture
def secure(authority: Path) -> Iterator[HTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    with HTTPServer("127.0.0.1", ssl_context=context) as server:
        server.expect_request("/v1/chat/completions").respond_with_handler(lambda _: completion("Yes. So.", 1, 1))
        yield server


def test_a_companys_own_authority_is_trusted_where_it_is_named(secure: HTTPServer, authority: Path) -> None:
    answer, _ = asked(secure.url_for("/v1"), ca_bundle=str(authority))
    assert answer.reply.content == "Yes. So."
    with pytest.raises(TeacherError, match=r"CERTIFICATE_VERIFY_FAILED.*check teacher\.base_url"):
        asked(secure.url_for("/v1"))


def test_a_bundle_that_holds_no_certificate_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n")
    with pytest.raises(TeacherError, match=r"teacher\.ca_bundle .*empty\.pem'? cannot be read"):
        asked("https://127.0.0.1:9/v1", ca_bundle=str(tmp_path / "empty.pem"))
