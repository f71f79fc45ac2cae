"""A verifier that fetches an issuer's keys over real HTTP, by a clock that tests move."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from parley_server.auth.jwks import JwksKeys, JwksVerifier
from parley_server.auth.jwt_verifier import JwtVerifier
from parley_server.core.errors import KeysUnavailable, Unauthenticated
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


class PublishedKeys:
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
async def jwks(issuer: Issuer) -> AsyncIterator[PublishedKeys]:
    """Not open yet, so that a test can say what the first fetch finds."""
    fixture = PublishedKeys(issuer, Clock(), PATIENCE_S)
    yield fixture
    await fixture.keys.close()
