"""What an issuer may answer: anything at all, and the keys of before go on.

Each limit was taken out once, and a test here failed: on time, size and number, compression,
redirects, proxies, and on what a key may be.
"""

import asyncio
import gzip
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from parley_server.auth.jwks import MAX_DOCUMENT_BYTES, MIN_DISTANCE_S, JwksKeys
from parley_server.auth.jwt_verifier import JwtVerifier
from parley_server.core.model import Principal
from support.issuer import Clock, Issuer, a_signing_key
from support.published_keys import (
    FIRST,
    PATIENCE_S,
    RSA,
    SECOND,
    PublishedKeys,
    a_token,
    until,
)

GOOD = {"keys": [FIRST.jwk]}
FAILURES: dict[str, tuple[Any, str, str]] = {
    "status 500": (GOOD, "500 No", ""),
    "status 404": (GOOD, "404 No", ""),
    "status 204": (b"", "204 No Content", ""),
    "status 201": (GOOD, "201 Created", ""),
    "nothing": (b"", "200 OK", ""),
    "no JSON": (b"<html>", "200 OK", ""),
    "no UTF-8": (b'{"keys": ["\xff"]}', "200 OK", ""),
    "half": (json.dumps(GOOD).encode()[:-9], "200 OK", ""),
    "deep": (b'{"keys": ' + b"[" * 90_000, "200 OK", ""),
    "a list": ([FIRST.jwk], "200 OK", ""),
    "null": (None, "200 OK", ""),
    "one key alone": (FIRST.jwk, "200 OK", ""),
    "keys in an object": ({"keys": {"first": FIRST.jwk}}, "200 OK", ""),
    "a PEM file": (b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----", "200 OK", ""),
    "compressed": (
        gzip.compress(json.dumps(GOOD).encode()),
        "200 OK",
        "content-encoding: gzip\r\n",
    ),
    "too long by a byte": (
        json.dumps(GOOD).encode().ljust(MAX_DOCUMENT_BYTES + 1),
        "200 OK",
        "",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_answer_that_is_no_jwks_changes_nothing(jwks: PublishedKeys, name: str) -> None:
    body, status, headers = FAILURES[name]
    await jwks.keys.open()
    jwks.issuer.reply(body, status=status, headers=headers)
    with capture_logs() as logs:
        await jwks.refreshed(300)

    assert ["the issuer's keys cannot be fetched"] == [line["event"] for line in logs]
    assert FIRST.jwk["x"] not in str(logs)
    assert 300 == jwks.keys.age_s
    assert await jwks.takes(a_token())


async def test_document_of_256_kib_is_read(jwks: PublishedKeys) -> None:
    jwks.issuer.reply(json.dumps(GOOD).encode().ljust(MAX_DOCUMENT_BYTES))
    await jwks.keys.open()

    assert await jwks.takes(a_token())


async def test_redirect_is_not_followed(jwks: PublishedKeys) -> None:
    async with Issuer().running() as elsewhere:
        elsewhere.publish(SECOND)
        for status in ("301 M", "302 F", "303 S", "307 T", "308 P"):
            jwks.issuer.reply(b"", status=status, headers=f"location: {elsewhere.url}\r\n")
            keys = JwksKeys(jwks.issuer.url)
            await keys.open()
            await keys.close()
            assert not keys.current
        assert 0 == elsewhere.fetches
        assert 5 == jwks.issuer.fetches


async def test_endless_body_is_cut(jwks: PublishedKeys) -> None:
    """No more is taken than what lies in the sockets' own buffers."""
    sent = 0
    is_cut = asyncio.Event()

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"keys": [')
        try:
            while sent < 1024**3:
                writer.write(b" " * 65_536)
                await writer.drain()
                sent += 65_536
        finally:
            is_cut.set()

    jwks.issuer.answer = pour
    with capture_logs() as logs:
        await jwks.keys.open()

    await asyncio.wait_for(is_cut.wait(), PATIENCE_S)
    assert sent < 20 * 1024**2
    assert ["the document has more than 262,144 bytes"] == [line["why"] for line in logs]


async def test_body_of_10_mib_is_not_read_to_its_end(jwks: PublishedKeys) -> None:
    jwks.issuer.reply(json.dumps(GOOD).encode().ljust(10 * 1024**2))
    with capture_logs() as logs:
        await jwks.keys.open()

    assert ["the document has more than 262,144 bytes"] == [line["why"] for line in logs]
    assert await jwks.has_no_keys()


@pytest.mark.parametrize("where", ["the head", "the body"])
async def test_slow_drip_is_cut_when_its_time_is_over(issuer: Issuer, where: str) -> None:
    """A byte comes far more often than any time limit on a single read would allow for."""
    is_cut = asyncio.Event()

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + (b"" if where == "the head" else b"\r\n"))
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        finally:
            is_cut.set()

    issuer.answer = drip
    fixture = PublishedKeys(issuer, Clock(), timeout_s=0.3)
    with capture_logs() as logs:
        await asyncio.wait_for(fixture.keys.open(), PATIENCE_S)
    await asyncio.wait_for(is_cut.wait(), PATIENCE_S)
    await fixture.keys.close()

    assert ["TimeoutError"] == [line["why"] for line in logs]


async def test_call_waits_no_longer_than_a_fetch_may_take(issuer: Issuer) -> None:
    fixture = PublishedKeys(issuer, Clock(), timeout_s=0.3)
    await fixture.keys.open()
    issuer.gate.clear()
    fixture.clock.move(30)

    assert not await asyncio.wait_for(fixture.takes(a_token(SECOND)), PATIENCE_S)
    assert await fixture.takes(a_token())
    await fixture.keys.close()


# Keys that cannot be used, among others


def bad_keys() -> list[Any]:
    short = {"kty": "RSA", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4", "e": "AQAB"}
    return [
        SECOND.private_jwk,
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "shared"},
        short,
        {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
        FIRST.jwk | {"kid": 7},
        FIRST.jwk | {"alg": "RS512"},
        {"kty": ["RSA"]},
        "text",
        None,
        {},
    ]


async def test_bad_keys_are_left_out_one_by_one(jwks: PublishedKeys) -> None:
    jwks.issuer.reply({"keys": [*bad_keys(), FIRST.jwk, *bad_keys(), RSA.jwk]})
    with capture_logs() as logs:
        await jwks.keys.open()

    assert ["first", "rsa"] == [key.kid for key in jwks.keys.current]
    assert await jwks.takes(a_token())
    assert await jwks.takes(a_token(RSA))
    assert not await jwks.takes(a_token(SECOND))
    assert "key 1 is a private key: only public keys belong there" == logs[0]["left_out"][0]
    for secret in (SECOND.private_jwk["d"], SECOND.jwk["x"], "c2VjcmV0"):
        assert secret not in str(logs)


async def test_second_key_of_an_id_is_left_out(jwks: PublishedKeys) -> None:
    another = a_signing_key("EdDSA", "first")
    jwks.issuer.publish(FIRST, another, a_signing_key("ES256", "first"))
    await jwks.keys.open()

    assert ["EdDSA", "ES256"] == [key.algorithm for key in jwks.keys.current]
    assert await jwks.takes(a_token())
    assert not await jwks.takes(a_token(another))


async def test_of_40_keys_the_first_32_are_used(jwks: PublishedKeys) -> None:
    keys = [a_signing_key("EdDSA", f"key-{number}") for number in range(40)]
    jwks.issuer.publish(*keys)
    await jwks.keys.open()

    assert [key.kid for key in keys[:32]] == [key.kid for key in jwks.keys.current]
    assert await jwks.takes(a_token(keys[31]))
    assert not await jwks.takes(a_token(keys[32]))


async def test_issuer_that_withdraws_all_keys_is_believed(jwks: PublishedKeys) -> None:
    """It is not down: it says that nobody's token is good. It is asked again after 30 s."""
    await jwks.keys.open()
    assert await jwks.takes(a_token())
    for nothing in ([], bad_keys()):
        jwks.issuer.reply({"keys": nothing})
        await jwks.refreshed(300)
        assert await jwks.has_no_keys()
        jwks.issuer.publish(FIRST)
        await jwks.refreshed(30)
        assert await jwks.takes(a_token())


# The way there


async def test_https_is_trusted_as_the_system_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with Issuer().running(tls) as issuer:
        issuer.publish(FIRST)
        seen = []
        for trusted in ("", str(tmp_path / "ca.pem")):
            monkeypatch.setenv("SSL_CERT_FILE", trusted)
            keys = JwksKeys(issuer.url)
            await keys.open()
            await keys.close()
            seen.append(len(keys.current))

    assert [0, 1] == seen


async def test_an_authority_that_was_renewed_is_trusted_at_the_next_try(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Fails with one client for all fetches: it reads once whom to trust."""
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    trustme.CA().cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    clock = Clock()
    async with Issuer().running(tls) as issuer:
        issuer.publish(FIRST)
        keys = JwksKeys(issuer.url, clock=clock, sleep=clock.sleep)
        await keys.open()
        assert [] == list(keys.current)
        authority.cert_pem.write_to_path(str(file))
        clock.move(MIN_DISTANCE_S)
        await until(lambda: bool(keys.current))
        await keys.close()


async def test_keys_on_this_machine_are_not_fetched_through_a_proxy(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the environment's proxy is used: what it answers would be believed."""
    async with Issuer().running() as proxy:
        proxy.publish(SECOND)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/keys"))
        monkeypatch.setenv("no_proxy", "")
        keys = JwksKeys(issuer.url)
        await keys.open()
        await keys.close()

    assert ["first"] == [key.kid for key in keys.current]
    assert 0 == proxy.fetches


async def test_verifier_gives_the_callers_of_a_plain_one(jwks: PublishedKeys) -> None:
    await jwks.keys.open()
    token = a_token(scope="parley.read")

    expected = JwtVerifier(jwks.keys.current, "issuer", "audience", None).check(token)
    assert isinstance(expected, Principal)
    assert expected == await jwks.verifier.verify(token)
