"""Minted tokens: a server with the same settings takes them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.auth.jwt_verifier import JwtVerifier
from parley_server.auth.keys import Key, UnusableKeys
from parley_server.auth.tokens import mint
from parley_server.core.errors import Unauthenticated
from parley_server.core.model import Owner, Principal, is_name
from support.processes import run

SECRET = b"throw-away-throw-away-throw-away"
NOW = 1_800_000_000
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60).filter(
    is_name
)


def a_minted(**arguments: Any) -> str:
    given: dict[str, Any] = {
        "secret": SECRET,
        "user": "alice",
        "tenant": "acme",
        "ttl_s": 3600,
        "issuer": "issuer",
        "audience": "audience",
        "tenant_claim": "tenant",
        "clock": lambda: NOW + 0.9,
    }
    return mint(**given | arguments)


def a_verifier(now_s: float = NOW, tenant_claim: str | None = "tenant") -> JwtVerifier:
    return JwtVerifier([Key(SECRET)], "issuer", "audience", tenant_claim, clock=lambda: now_s)


@given(NAMES, NAMES, st.none() | st.lists(st.from_regex(r"[!-~]+", fullmatch=True), max_size=9))
def test_minted_token_is_taken(user: str, tenant: str, scopes: list[str] | None) -> None:
    token = a_minted(user=user, tenant=tenant, scope=None if scopes is None else " ".join(scopes))

    expected = Principal(Owner.of(tenant, user), None if scopes is None else frozenset(scopes))
    assert expected == a_verifier().check(token)


def test_minted_token_without_tenants_is_taken() -> None:
    token = a_minted(tenant="", tenant_claim=None)

    assert Owner.of("", "alice") == a_verifier(tenant_claim=None).check(token).owner


def test_minted_token_ends_when_it_was_asked_to() -> None:
    token = a_minted(ttl_s=60)

    assert Owner.of("acme", "alice") == a_verifier(NOW + 60 + 29.9).check(token).owner
    with pytest.raises(Unauthenticated):
        a_verifier(NOW + 60 + 30).check(token)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"user": ""}, "the user must be 1 to 255 bytes"),
        ({"user": "ali\nce"}, "the user must be"),
        ({"tenant": ""}, "the tenant must be 1 to 255 bytes"),
        ({"tenant": "x" * 256}, "the tenant must be"),
        ({"tenant_claim": None}, "a tenant needs a configured tenant claim"),
        ({"tenant_claim": "sub"}, "the tenant claim cannot be"),
        ({"ttl_s": 0}, "the time to live must be at least a second"),
        ({"ttl_s": -1}, "the time to live must be"),
        ({"ttl_s": 10**12}, "end before the year 10000"),
    ],
)
def test_mint_refuses_what_no_server_would_take(arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        a_minted(**arguments)


def test_mint_refuses_a_short_secret() -> None:
    with pytest.raises(UnusableKeys, match="at least 32"):
        a_minted(secret=b"short")


@pytest.mark.slow
def test_command_mints_the_scopes_that_it_is_given() -> None:
    """Without --scope there is no claim: unrestricted, but for acting, which has to be named."""
    settings = {
        "PARLEY_AUTH_HS256_SECRET": SECRET.decode(),
        "PARLEY_AUTH_ISSUER": "issuer",
        "PARLEY_AUTH_AUDIENCE": "audience",
    }
    verifier = JwtVerifier([Key(SECRET)], "issuer", "audience", None)
    for options, expected in (
        (("--scope", "parley.read parley.write parley.act"), {"read", "write", "act"}),
        (("--scope", ""), set()),
        ((), None),
    ):
        done = run("token", "--user", "backend", *options, **settings)
        assert 0 == done.returncode, done.stderr
        scopes = verifier.check(done.stdout.strip()).scopes
        assert (None if expected is None else {f"parley.{scope}" for scope in expected}) == scopes
    assert "parley.act" in run("token", "--help").stdout


def test_command_refuses_a_scope_that_there_is_not() -> None:
    """Fails when a typing error gives a token with which every call is refused."""
    secret = {"PARLEY_AUTH_HS256_SECRET": SECRET.decode()}
    done = run("token", "--user", "ada", "--scope", "parley.read parley.wirte write", **secret)

    assert (1, "") == (done.returncode, done.stdout)
    expected = (
        "parley-server: --scope: there is no parley.wirte, write; there are parley.read, "
        "parley.write, parley.act, parley.erase, parley.observe\n"
    )
    assert expected == done.stderr
