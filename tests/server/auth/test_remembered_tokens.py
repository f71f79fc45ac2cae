"""Verified tokens are remembered for a while (decision 0003).

A remembered token gives the very same Caller object; one that was checked again gives another.
Each bound on the memory was taken out once, and a test here failed.
"""

from typing import Any

import pytest

from parley_server.auth.jwt_verifier import JwtVerifier
from parley_server.auth.keys import Key
from parley_server.core.errors import Unauthenticated
from support.bad_tokens import a_token

SECRET = b"throw-away-throw-away-throw-away"
NOW = 1_800_000_000


class Clock:
    def __init__(self) -> None:
        self.now_s: float = NOW

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(clock: Clock) -> JwtVerifier:
    return JwtVerifier([Key(SECRET)], "issuer", "audience", None, clock=clock, remember_tokens=3)


def a_good(**claims: Any) -> str:
    return a_token(SECRET, "issuer", "audience", claims=claims, now_s=NOW)


def test_token_is_remembered_for_60_s_and_no_longer(verifier: JwtVerifier, clock: Clock) -> None:
    token = a_good()
    first = verifier.verify(token)

    clock.now_s = NOW + 59.9
    assert verifier.verify(token) is first
    clock.now_s = NOW + 60
    again = verifier.verify(token)
    assert first == again
    assert again is not first
    clock.now_s = NOW + 119.9
    assert verifier.verify(token) is again


def test_token_is_never_remembered_beyond_its_end(verifier: JwtVerifier, clock: Clock) -> None:
    token = a_good(exp=NOW + 10)
    first = verifier.verify(token)

    clock.now_s = NOW + 10 + 29.9
    assert verifier.verify(token) is first
    clock.now_s = NOW + 10 + 30
    with pytest.raises(Unauthenticated):
        verifier.verify(token)


def test_clock_that_is_set_back_does_not_prolong_memory(
    verifier: JwtVerifier, clock: Clock
) -> None:
    token = a_good()
    first = verifier.verify(token)

    clock.now_s = NOW - 1
    assert verifier.verify(token) is not first
    clock.now_s = NOW - 1000
    with pytest.raises(Unauthenticated):  # iat is to come
        verifier.verify(token)


def test_altered_token_is_refused_after_the_good_one(verifier: JwtVerifier) -> None:
    token = a_good()
    first = verifier.verify(token)
    head, dot, signature = token.rpartition(".")
    altered = ("B" if signature[0] == "A" else "A") + signature[1:]

    for bad in (head + dot + altered, token[:-1], token + " ", "x" + token):
        with pytest.raises(Unauthenticated):
            verifier.verify(bad)
    assert verifier.verify(token) is first


def test_refusal_is_not_remembered(verifier: JwtVerifier, clock: Clock) -> None:
    token = a_good(nbf=NOW + 100)
    with pytest.raises(Unauthenticated):
        verifier.verify(token)

    clock.now_s = NOW + 70
    assert verifier.verify(token).owner.user == "alice"


def test_memory_is_bounded_and_forgets_the_oldest(verifier: JwtVerifier, clock: Clock) -> None:
    tokens = [a_good(sub=f"user-{n}") for n in range(4)]
    first, *others = [verifier.verify(token) for token in tokens]

    assert all(
        verifier.verify(token) is caller for token, caller in zip(tokens[1:], others, strict=True)
    )
    assert verifier.verify(tokens[0]) is not first
    assert verifier.verify(tokens[1]) is not others[0]  # was pushed out by the line above


def test_token_that_was_checked_again_is_the_newest(verifier: JwtVerifier, clock: Clock) -> None:
    tokens = [a_good(sub=f"user-{n}") for n in range(4)]
    for token in tokens[:3]:
        verifier.verify(token)
    clock.now_s = NOW + 60
    again = verifier.verify(tokens[0])

    verifier.verify(tokens[3])
    assert verifier.verify(tokens[0]) is again


def test_token_with_very_many_scopes_is_not_remembered(verifier: JwtVerifier) -> None:
    few, many = (a_good(scope=" ".join(map(str, range(count)))) for count in (64, 65))

    assert verifier.verify(few) is verifier.verify(few)
    assert verifier.verify(many) == verifier.verify(many)
    assert verifier.verify(many) is not verifier.verify(many)
