"""Verified tokens are remembered for a while (decision 0003).

A remembered token gives the very same Principal; one that was checked again gives another.
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
    first = verifier.check(token)

    clock.now_s = NOW + 59.9
    assert verifier.check(token) is first
    clock.now_s = NOW + 60
    again = verifier.check(token)
    assert first == again
    assert again is not first
    clock.now_s = NOW + 119.9
    assert verifier.check(token) is again


def test_token_is_never_remembered_beyond_its_end(verifier: JwtVerifier, clock: Clock) -> None:
    token = a_good(exp=NOW + 10)
    first = verifier.check(token)

    clock.now_s = NOW + 10 + 29.9
    assert verifier.check(token) is first
    clock.now_s = NOW + 10 + 30
    with pytest.raises(Unauthenticated):
        verifier.check(token)


def test_clock_that_is_set_back_does_not_prolong_memory(
    verifier: JwtVerifier, clock: Clock
) -> None:
    token = a_good()
    first = verifier.check(token)

    clock.now_s = NOW - 1
    assert verifier.check(token) is not first
    clock.now_s = NOW - 1000
    with pytest.raises(Unauthenticated):  # iat is to come
        verifier.check(token)


def test_altered_token_is_refused_after_the_good_one(verifier: JwtVerifier) -> None:
    token = a_good()
    first = verifier.check(token)
    head, dot, signature = token.rpartition(".")
    altered = ("B" if signature[0] == "A" else "A") + signature[1:]

    for bad in (head + dot + altered, token[:-1], token + " ", "x" + token):
        with pytest.raises(Unauthenticated):
            verifier.check(bad)
    assert verifier.check(token) is first


def test_refusal_is_not_remembered(verifier: JwtVerifier, clock: Clock) -> None:
    token = a_good(nbf=NOW + 100)
    with pytest.raises(Unauthenticated):
        verifier.check(token)

    clock.now_s = NOW + 70
    assert verifier.check(token).owner.user == "alice"


def test_memory_is_bounded_and_forgets_the_oldest(verifier: JwtVerifier, clock: Clock) -> None:
    tokens = [a_good(sub=f"user-{n}") for n in range(4)]
    first, *others = [verifier.check(token) for token in tokens]

    assert all(
        verifier.check(token) is caller for token, caller in zip(tokens[1:], others, strict=True)
    )
    assert verifier.check(tokens[0]) is not first
    assert verifier.check(tokens[1]) is not others[0]  # was pushed out by the line above


def test_token_that_was_checked_again_is_the_newest(verifier: JwtVerifier, clock: Clock) -> None:
    tokens = [a_good(sub=f"user-{n}") for n in range(4)]
    for token in tokens[:3]:
        verifier.check(token)
    clock.now_s = NOW + 60
    again = verifier.check(tokens[0])

    verifier.check(tokens[3])
    assert verifier.check(tokens[0]) is again


def test_token_with_very_many_scopes_is_not_remembered(verifier: JwtVerifier) -> None:
    few, many = (a_good(scope=" ".join(map(str, range(count)))) for count in (64, 65))

    assert verifier.check(few) is verifier.check(few)
    assert verifier.check(many) == verifier.check(many)
    assert verifier.check(many) is not verifier.check(many)
