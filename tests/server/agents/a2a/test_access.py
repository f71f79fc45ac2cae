"""Addresses, tokens and certificates of remote agents: what is wrong is said at start."""

import re
from pathlib import Path

import pytest
import trustme

from parley_server.agents.a2a.access import Access, Address
from parley_server.agents.catalog import close_agent, create_agent
from parley_server.agents.errors import BadAgent
from support.certificates import Certificates

FORM = "must be a2a+grpc://HOST:PORT"


@pytest.mark.parametrize(
    "name",
    [
        "a2a+grpc",
        "a2a+grpc:",
        "a2a+grpc://",
        "a2a+grpc://host",
        "a2a+grpc://host:",
        "a2a+grpc://host:port",
        "a2a+grpc://host:70000",
        "a2a+grpc://:9000",
        "a2a+grpc://host:9000/path",
        "a2a+grpc://host:9000?x=1",
        "a2a+grpc://user:secret@host:9000",
        "a2a+grpc://:secret@host:9000",
        "a2a+grpc://[::1:9000",
        "a2a+grpcs://host:9000#x",
    ],
)
def test_an_address_in_another_form_is_refused(name: str) -> None:
    with pytest.raises(BadAgent, match=re.escape(FORM)) as caught:
        create_agent(name)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "target", "is_tls", "is_on_this_machine"),
    [
        ("a2a+grpc://agents.internal:9000", "agents.internal:9000", False, False),
        ("a2a+grpcs://agents.internal:443", "agents.internal:443", True, False),
        ("a2a+grpc://[::1]:9000", "[::1]:9000", False, True),
        ("a2a+grpc://127.0.0.1:9000/", "127.0.0.1:9000", False, True),
        ("a2a+grpc://localhost:9000", "localhost:9000", False, True),
    ],
)
def test_an_address_is_read(name: str, target: str, is_tls: bool, is_on_this_machine: bool) -> None:
    address = Address.read(name)

    assert (target, is_tls) == (address.target, address.is_tls)
    assert is_on_this_machine is address.is_on_this_machine


@pytest.mark.parametrize(
    ("name", "access", "expected"),
    [
        ("a2a+grpc://far:1", Access(token="t"), "would be sent unencrypted: use a2a[+]grpcs"),
        ("a2a+grpcs://far:1", Access(token=""), "token must be printable ASCII, not empty"),
        ("a2a+grpcs://far:1", Access(token="t\n"), "token must be printable ASCII"),
        ("a2a+grpcs://far:1", Access(token="tök"), "token must be printable ASCII"),
        ("a2a+grpc://far:1", Access(ca_file=Path("ca")), "need TLS: use a2a[+]grpcs"),
        ("a2a+grpcs://far:1", Access(cert_file=Path("c")), "must be set together"),
        ("a2a+grpcs://far:1", Access(key_file=Path("k")), "must be set together"),
        (
            "a2a+grpcs://far:1",
            Access(ca_file=Path("/no/ca")),
            "ca_file: cannot read /no/ca",
        ),
    ],
)
def test_access_that_cannot_work_or_is_not_safe_is_refused(
    name: str, access: Access, expected: str
) -> None:
    with pytest.raises(BadAgent, match=expected):
        create_agent(name, access=access)


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    files, others = Certificates(tmp_path), Certificates(tmp_path / "others")
    others.folder.mkdir()
    for each in (files, others):
        each.write(trustme.CA())
    text = tmp_path / "text"
    text.write_text("no certificate")

    for access, expected in (
        (Access(ca_file=text), "ca_file: .*/text does not hold certificates, as PEM"),
        (Access(ca_file=files.key), "ca_file: .*key does not hold certificates"),
        (Access(cert_file=text, key_file=files.key), "cert_file: .*/text does not hold cert"),
        (Access(cert_file=files.cert, key_file=others.key), "key_file: .* does not hold the key"),
        (Access(cert_file=files.cert, key_file=text), "key_file: .*/text does not hold the key"),
        (Access(cert_file=files.cert, key_file=tmp_path / "no"), "key_file: cannot read .*/no:"),
    ):
        with pytest.raises(BadAgent, match=expected):
            create_agent("a2a+grpcs://far:1", access=access)


def test_a_token_is_not_shown() -> None:
    assert "t0ken" not in repr(Access(token="t0ken"))


async def test_an_agent_that_was_never_asked_can_be_closed() -> None:
    await close_agent(create_agent("a2a+grpc://127.0.0.1:1"))
