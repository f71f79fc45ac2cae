"""Keys that an issuer publishes: real HTTP, real signatures, a clock that tests move.

Each bound was taken out once, and a test here failed: the distance between fetches, the single
fetch, the memory of unknown ids, the hour, the limits on time, size and number, redirects, and that
what old keys had shown is forgotten with them.
"""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from parley_server.auth.jwks import MAX_DOCUMENT_BYTES, UNKNOWN_IDS, JwksKeys, JwksVerifier
from parley_server.auth.jwt_verifier import JwtVerifier
from parley_server.core.errors import KeysUnavailable, Unauthenticated
from parley_server.core.ports import Caller
from support.bad_tokens import as_json, base64url
from support.issuer import Clock, Issuer, SigningKey, a_signing_key

FIRST, SECOND = a_signing_key("EdDSA", "first"), a_signing_key("ES256", "second")
RSA = a_signing_key("RS256", "rsa")
PATIENCE_S = 20.0


def a_token(key: SigningKey = FIRST, **claims: Any) -> str:
    return key.token(issuer="issuer", audience="audience", **claims)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            await asyncio.sleep(0.005)


class Fixture:
    """An issuer, and a verifier that fetches its keys."""

    def __init__(self, issuer: Issuer, clock: Clock, timeout_s: float) -> None:
        self.issuer = issuer
        self.clock = clock
        self.keys = JwksKeys(issuer.url, timeout_s=timeout_s, clock=clock, sleep=clock.sleep)
        self.verifier = JwksVerifier(
            self.keys, lambda keys: JwtVerifier(keys, "issuer", "audience", None)
        )

    async def takes(self, token: str) -> bool:
        try:
            await self.verifier.verify(token)
        except Unauthenticated as refused:
            assert (None, None) == (refused.__cause__, refused.__context__)
            return False
        return True

    async def has_no_keys(self) -> bool:
        with pytest.raises(KeysUnavailable):
            await self.verifier.verify(a_token())
        return not self.verifier.has_keys

    async def refreshed(self, seconds: float) -> None:
        """Move the clock, and wait for the fetch that this brings about in the background."""
        before = self.issuer.fetches
        self.clock.move(seconds)
        await until(lambda: self.issuer.fetches > before)
        await self.keys.look_again()


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer().running() as issuer:
        issuer.publish(FIRST)
        yield issuer


@pytest.fixture
async def jwks(issuer: Issuer) -> AsyncIterator[Fixture]:
    """Not open yet, so that a test can say what the first fetch finds."""
    fixture = Fixture(issuer, Clock(), PATIENCE_S)
    yield fixture
    await fixture.keys.close()


# Fetching and keeping


@pytest.mark.parametrize("key", [FIRST, SECOND, RSA], ids=lambda key: key.algorithm)
async def test_token_is_valid_by_a_published_key(jwks: Fixture, key: SigningKey) -> None:
    jwks.issuer.publish(SECOND, RSA, FIRST)
    await jwks.keys.open()

    assert "ada" == (await jwks.verifier.verify(a_token(key))).owner.user
    assert await jwks.takes(a_token(SigningKey(key.algorithm, None, key.private)))
    another = a_signing_key(key.algorithm, key.kid)
    assert not await jwks.takes(a_token(another))


async def test_keys_are_fetched_once_for_many_tokens(jwks: Fixture) -> None:
    await jwks.keys.open()

    for number in range(100):
        assert await jwks.takes(a_token(sub=f"user-{number}"))
    assert 1 == jwks.issuer.fetches
    assert b"accept-encoding: identity" in jwks.issuer.requests[0].lower()


async def test_keys_are_fetched_anew_every_5_minutes_without_any_call(jwks: Fixture) -> None:
    await jwks.keys.open()
    jwks.issuer.publish(SECOND)
    jwks.clock.move(299.9)
    await asyncio.sleep(0)
    assert 1 == jwks.issuer.fetches

    await jwks.refreshed(0.1)
    assert ["second"] == [key.kid for key in jwks.keys.current]
    assert 2 == jwks.issuer.fetches


async def test_age_counts_from_the_last_fetch_that_worked(jwks: Fixture) -> None:
    assert jwks.verifier.keys_age_s is None
    await jwks.keys.open()
    assert 0 == jwks.verifier.keys_age_s

    jwks.issuer.go_down()
    await jwks.refreshed(300)
    assert 300 == jwks.verifier.keys_age_s
    jwks.issuer.publish(FIRST)
    await jwks.refreshed(30)
    assert 0 == jwks.verifier.keys_age_s


async def test_token_stays_remembered_while_keys_stay_the_same(jwks: Fixture) -> None:
    await jwks.keys.open()
    first = await jwks.verifier.verify(token := a_token())

    await jwks.refreshed(300)
    assert first is await jwks.verifier.verify(token)


async def test_token_is_forgotten_with_the_key_that_signed_it(jwks: Fixture) -> None:
    jwks.issuer.publish(FIRST, SECOND)
    await jwks.keys.open()
    assert await jwks.takes(token := a_token())

    jwks.issuer.publish(SECOND)
    await jwks.refreshed(300)
    assert not await jwks.takes(token)
    assert await jwks.takes(a_token(SECOND))


async def test_key_that_was_replaced_under_its_id_is_forgotten(jwks: Fixture) -> None:
    await jwks.keys.open()
    assert await jwks.takes(token := a_token())

    jwks.issuer.publish(a_signing_key("EdDSA", "first"))
    await jwks.refreshed(300)
    assert not await jwks.takes(token)


# New keys


async def test_token_of_a_new_key_waits_for_the_fetch_that_brings_it(jwks: Fixture) -> None:
    await jwks.keys.open()
    jwks.issuer.publish(FIRST, SECOND)
    jwks.clock.move(30)

    assert await jwks.takes(a_token(SECOND))
    assert 2 == jwks.issuer.fetches


async def test_token_of_a_new_key_is_refused_at_once_until_there_may_be_a_fetch(
    jwks: Fixture,
) -> None:
    await jwks.keys.open()
    jwks.issuer.publish(FIRST, SECOND)
    jwks.clock.move(29.9)
    assert not await jwks.takes(a_token(SECOND))
    assert 1 == jwks.issuer.fetches

    jwks.clock.move(0.1)
    assert await jwks.takes(a_token(SECOND))


async def test_id_that_the_issuer_does_not_have_causes_no_fetch_for_60_s(jwks: Fixture) -> None:
    await jwks.keys.open()
    jwks.clock.move(30)
    assert not await jwks.takes(a_token(SECOND))
    assert 2 == jwks.issuer.fetches

    jwks.clock.move(59.9)
    assert not await jwks.takes(a_token(SECOND))
    assert 2 == jwks.issuer.fetches
    jwks.issuer.publish(SECOND)
    jwks.clock.move(0.1)
    assert await jwks.takes(a_token(SECOND))
    assert 3 == jwks.issuer.fetches


async def test_id_is_not_taken_for_unknown_because_a_fetch_failed(jwks: Fixture) -> None:
    await jwks.keys.open()
    jwks.issuer.go_down()
    jwks.clock.move(30)
    assert not await jwks.takes(a_token(SECOND))

    jwks.issuer.publish(FIRST, SECOND)
    jwks.clock.move(30)
    assert await jwks.takes(a_token(SECOND))


async def test_random_ids_cause_one_fetch_in_30_s_and_hold_up_nobody(jwks: Fixture) -> None:
    """Also while the fetch hangs: whoever has a known key does not wait for it."""
    await jwks.keys.open()
    token = a_token()
    rest = a_token(SECOND).partition(".")[2]
    for flood in range(1, 4):
        headers = ({"alg": "ES256", "kid": f"{flood}-{number}"} for number in range(5000))
        junk = [f"{base64url(as_json(header))}.{rest}" for header in headers]
        jwks.clock.move(30)
        jwks.issuer.gate.clear()
        calls = [asyncio.create_task(jwks.takes(bad)) for bad in junk]
        await until(lambda flood=flood: flood + 1 == jwks.issuer.fetches)  # type: ignore[misc]
        assert await jwks.takes(token)
        assert not any(call.done() for call in calls)
        jwks.issuer.gate.set()
        assert not any(await asyncio.gather(*calls))
        assert not any([await jwks.takes(bad) for bad in junk[:1000]])
        assert flood + 1 == jwks.issuer.fetches
    assert len(jwks.keys._unknown) <= UNKNOWN_IDS


async def test_token_with_junk_for_an_id_causes_no_fetch(jwks: Fixture) -> None:
    await jwks.keys.open()
    jwks.clock.move(30)

    good = a_token()
    too_long = a_token(SECOND, header={"kid": "x" * 9000})
    no_id = a_token(a_signing_key("EdDSA", None))
    for token in ("", "a.b.c", good[:-4], too_long, no_id, "\ud800", good + "é"):
        assert not await jwks.takes(token)
    assert 1 == jwks.issuer.fetches


async def test_200_calls_at_once_wait_for_one_fetch(jwks: Fixture) -> None:
    await jwks.keys.open()
    jwks.issuer.publish(FIRST, SECOND)
    jwks.clock.move(30)
    jwks.issuer.gate.clear()
    calls = [asyncio.create_task(jwks.takes(a_token(SECOND))) for _ in range(200)]
    await until(lambda: 2 == jwks.issuer.fetches)
    jwks.issuer.gate.set()

    assert all(await asyncio.gather(*calls))
    assert 2 == jwks.issuer.fetches


async def test_caller_that_goes_leaves_the_fetch_to_the_others(jwks: Fixture) -> None:
    await jwks.keys.open()
    jwks.issuer.publish(SECOND)
    jwks.clock.move(30)
    jwks.issuer.gate.clear()
    first, second = (asyncio.create_task(jwks.takes(a_token(SECOND))) for _ in range(2))
    await until(lambda: 2 == jwks.issuer.fetches)
    first.cancel()
    await asyncio.wait([first])
    jwks.issuer.gate.set()

    assert await second
    assert first.cancelled()
    assert 2 == jwks.issuer.fetches


# An issuer that is down


async def test_issuer_that_is_down_at_the_start_is_asked_again_after_30_s(jwks: Fixture) -> None:
    jwks.issuer.go_down()
    with capture_logs() as logs:
        await jwks.keys.open()

    assert ["the issuer's keys cannot be fetched"] == [line["event"] for line in logs]
    jwks.issuer.publish(FIRST)
    jwks.clock.move(29.9)
    for _ in range(100):
        assert await jwks.has_no_keys()
    assert 1 == jwks.issuer.fetches
    await jwks.refreshed(0.1)
    assert jwks.verifier.has_keys
    assert await jwks.takes(a_token())


async def test_call_without_keys_waits_for_the_fetch_that_brings_them(jwks: Fixture) -> None:
    jwks.issuer.go_down()
    await jwks.keys.open()
    jwks.issuer.publish(FIRST)
    jwks.clock.move(30)

    assert all(await asyncio.gather(*(jwks.takes(a_token()) for _ in range(200))))
    assert 2 == jwks.issuer.fetches


async def test_issuer_that_cannot_be_reached_at_all_is_down(jwks: Fixture) -> None:
    nowhere = JwksKeys("http://127.0.0.1:1/keys", clock=jwks.clock, sleep=jwks.clock.sleep)
    with capture_logs() as logs:
        await nowhere.open()
    await nowhere.close()

    assert ["ConnectError"] == [line["why"] for line in logs]
    assert not nowhere.current


async def test_old_keys_serve_for_an_hour_and_no_longer(jwks: Fixture) -> None:
    """The token is remembered, too: its memory ends with the keys."""
    await jwks.keys.open()
    assert await jwks.takes(token := a_token())
    jwks.issuer.go_down()
    await jwks.refreshed(300)

    jwks.clock.move(3299.9)
    assert await jwks.takes(token)
    assert await jwks.takes(a_token(sub="bob"))
    jwks.clock.move(0.1)
    assert await jwks.has_no_keys()
    await jwks.keys.look_again()
    jwks.issuer.publish(FIRST)
    await jwks.refreshed(30)
    assert await jwks.takes(token)


async def test_failed_fetches_keep_their_distance(jwks: Fixture) -> None:
    await jwks.keys.open()
    jwks.issuer.go_down()
    await jwks.refreshed(300)

    for failures in range(1, 10):
        jwks.clock.move(29.9)
        assert not await jwks.takes(a_token(SECOND))
        assert 1 + failures == jwks.issuer.fetches
        await jwks.refreshed(0.1)
    assert await jwks.takes(a_token())


async def test_closing_ends_a_fetch_under_way(jwks: Fixture) -> None:
    jwks.issuer.gate.clear()
    opening = asyncio.create_task(jwks.keys.open())
    await until(lambda: 1 == jwks.issuer.fetches)
    opening.cancel()
    await asyncio.wait([opening])

    async with asyncio.timeout(PATIENCE_S / 2):
        await jwks.keys.close()
    assert not jwks.keys.current


# Answers that cannot be used


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
async def test_answer_that_is_no_jwks_changes_nothing(jwks: Fixture, name: str) -> None:
    body, status, headers = FAILURES[name]
    await jwks.keys.open()
    jwks.issuer.reply(body, status=status, headers=headers)
    with capture_logs() as logs:
        await jwks.refreshed(300)

    assert ["the issuer's keys cannot be fetched"] == [line["event"] for line in logs]
    assert FIRST.jwk["x"] not in str(logs)
    assert 300 == jwks.keys.age_s
    assert await jwks.takes(a_token())


async def test_document_of_256_kib_is_read(jwks: Fixture) -> None:
    jwks.issuer.reply(json.dumps(GOOD).encode().ljust(MAX_DOCUMENT_BYTES))
    await jwks.keys.open()

    assert await jwks.takes(a_token())


async def test_redirect_is_not_followed(jwks: Fixture) -> None:
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


async def test_endless_body_is_cut(jwks: Fixture) -> None:
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
    assert ["the document has over 262,144 bytes"] == [line["why"] for line in logs]


async def test_body_of_10_mib_is_not_read_to_its_end(jwks: Fixture) -> None:
    jwks.issuer.reply(json.dumps(GOOD).encode().ljust(10 * 1024**2))
    with capture_logs() as logs:
        await jwks.keys.open()

    assert ["the document has over 262,144 bytes"] == [line["why"] for line in logs]
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
    fixture = Fixture(issuer, Clock(), timeout_s=0.3)
    with capture_logs() as logs:
        await asyncio.wait_for(fixture.keys.open(), PATIENCE_S)
    await asyncio.wait_for(is_cut.wait(), PATIENCE_S)
    await fixture.keys.close()

    assert ["TimeoutError"] == [line["why"] for line in logs]


async def test_call_waits_no_longer_than_a_fetch_may_take(issuer: Issuer) -> None:
    fixture = Fixture(issuer, Clock(), timeout_s=0.3)
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


async def test_bad_keys_are_left_out_one_by_one(jwks: Fixture) -> None:
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


async def test_second_key_of_an_id_is_left_out(jwks: Fixture) -> None:
    another = a_signing_key("EdDSA", "first")
    jwks.issuer.publish(FIRST, another, a_signing_key("ES256", "first"))
    await jwks.keys.open()

    assert ["EdDSA", "ES256"] == [key.algorithm for key in jwks.keys.current]
    assert await jwks.takes(a_token())
    assert not await jwks.takes(a_token(another))


async def test_of_40_keys_the_first_32_are_used(jwks: Fixture) -> None:
    keys = [a_signing_key("EdDSA", f"key-{number}") for number in range(40)]
    jwks.issuer.publish(*keys)
    await jwks.keys.open()

    assert [key.kid for key in keys[:32]] == [key.kid for key in jwks.keys.current]
    assert await jwks.takes(a_token(keys[31]))
    assert not await jwks.takes(a_token(keys[32]))


async def test_issuer_that_withdraws_all_keys_is_believed(jwks: Fixture) -> None:
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


async def test_verifier_gives_the_callers_of_a_plain_one(jwks: Fixture) -> None:
    await jwks.keys.open()
    token = a_token(scope="parley.read")

    expected = JwtVerifier(jwks.keys.current, "issuer", "audience", None).check(token)
    assert isinstance(expected, Caller)
    assert expected == await jwks.verifier.verify(token)
