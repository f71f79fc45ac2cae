"""An issuer's keys over time: kept, refreshed, rotated, and what holds while the issuer is down.

Each bound was taken out once, and a test here failed: the distance between fetches, the single
fetch, the memory of unknown ids, the hour, and that what old keys had shown is forgotten with them.
"""

import asyncio

import pytest
from structlog.testing import capture_logs

from parley_server.auth.jwks import MAX_WAITING, UNKNOWN_IDS, JwksKeys
from parley_server.core.errors import KeysUnavailable
from support.bad_tokens import as_json, base64url
from support.issuer import SigningKey, a_signing_key
from support.published_keys import (
    FIRST,
    PATIENCE_S,
    RSA,
    SECOND,
    PublishedKeys,
    a_token,
    until,
)

# Fetching and keeping


@pytest.mark.parametrize("key", [FIRST, SECOND, RSA], ids=lambda key: key.algorithm)
async def test_token_is_valid_by_a_published_key(jwks: PublishedKeys, key: SigningKey) -> None:
    jwks.issuer.publish(SECOND, RSA, FIRST)
    await jwks.keys.open()

    assert "ada" == (await jwks.verifier.verify(a_token(key))).owner.user
    assert await jwks.takes(a_token(SigningKey(key.algorithm, None, key.private)))
    another = a_signing_key(key.algorithm, key.kid)
    assert not await jwks.takes(a_token(another))


async def test_keys_are_fetched_once_for_many_tokens(jwks: PublishedKeys) -> None:
    await jwks.keys.open()

    for number in range(100):
        assert await jwks.takes(a_token(sub=f"user-{number}"))
    assert 1 == jwks.issuer.fetches
    assert b"accept-encoding: identity" in jwks.issuer.requests[0].lower()


async def test_keys_are_fetched_anew_every_5_minutes_without_any_call(jwks: PublishedKeys) -> None:
    await jwks.keys.open()
    jwks.issuer.publish(SECOND)
    jwks.clock.move(299.9)
    await asyncio.sleep(0)
    assert 1 == jwks.issuer.fetches

    await jwks.refreshed(0.1)
    assert ["second"] == [key.kid for key in jwks.keys.current]
    assert 2 == jwks.issuer.fetches


async def test_age_counts_from_the_last_fetch_that_worked(jwks: PublishedKeys) -> None:
    assert jwks.verifier.keys_age_s is None
    await jwks.keys.open()
    assert 0 == jwks.verifier.keys_age_s

    jwks.issuer.go_down()
    await jwks.refreshed(300)
    assert 300 == jwks.verifier.keys_age_s
    jwks.issuer.publish(FIRST)
    await jwks.refreshed(30)
    assert 0 == jwks.verifier.keys_age_s


async def test_token_stays_remembered_while_keys_stay_the_same(jwks: PublishedKeys) -> None:
    await jwks.keys.open()
    first = await jwks.verifier.verify(token := a_token())

    await jwks.refreshed(300)
    assert first is await jwks.verifier.verify(token)


async def test_token_is_forgotten_with_the_key_that_signed_it(jwks: PublishedKeys) -> None:
    jwks.issuer.publish(FIRST, SECOND)
    await jwks.keys.open()
    assert await jwks.takes(token := a_token())

    jwks.issuer.publish(SECOND)
    await jwks.refreshed(300)
    assert not await jwks.takes(token)
    assert await jwks.takes(a_token(SECOND))


async def test_key_that_was_replaced_under_its_id_is_forgotten(jwks: PublishedKeys) -> None:
    await jwks.keys.open()
    assert await jwks.takes(token := a_token())

    jwks.issuer.publish(a_signing_key("EdDSA", "first"))
    await jwks.refreshed(300)
    assert not await jwks.takes(token)


# New keys


async def test_token_of_a_new_key_waits_for_the_fetch_that_brings_it(jwks: PublishedKeys) -> None:
    await jwks.keys.open()
    jwks.issuer.publish(FIRST, SECOND)
    jwks.clock.move(30)

    assert await jwks.takes(a_token(SECOND))
    assert 2 == jwks.issuer.fetches


async def test_token_of_a_new_key_is_refused_at_once_until_there_may_be_a_fetch(
    jwks: PublishedKeys,
) -> None:
    await jwks.keys.open()
    jwks.issuer.publish(FIRST, SECOND)
    jwks.clock.move(29.9)
    assert not await jwks.takes(a_token(SECOND))
    assert 1 == jwks.issuer.fetches

    jwks.clock.move(0.1)
    assert await jwks.takes(a_token(SECOND))


async def test_id_that_the_issuer_lacks_causes_no_fetch_for_60_s(
    jwks: PublishedKeys,
) -> None:
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


async def test_id_is_not_taken_for_unknown_because_a_fetch_failed(jwks: PublishedKeys) -> None:
    await jwks.keys.open()
    jwks.issuer.go_down()
    jwks.clock.move(30)
    assert not await jwks.takes(a_token(SECOND))

    jwks.issuer.publish(FIRST, SECOND)
    jwks.clock.move(30)
    assert await jwks.takes(a_token(SECOND))


async def test_random_ids_cause_one_fetch_in_30_s_and_hold_up_nobody(jwks: PublishedKeys) -> None:
    """Also while the fetch hangs: whoever has a known key does not wait for it, and of the others
    only some do. Fails when all wait: each call takes memory until the fetch has ended."""
    await jwks.keys.open()
    token = a_token()
    rest = a_token(SECOND).partition(".")[2]
    for flood in range(1, 4):
        headers = ({"alg": "ES256", "kid": f"{flood}-{number}"} for number in range(5000))
        junk = [f"{base64url(as_json(header))}.{rest}" for header in headers]
        jwks.clock.move(30)
        jwks.issuer.gate.clear()
        calls = [asyncio.create_task(jwks.takes(bad)) for bad in junk[:MAX_WAITING]]
        await until(lambda flood=flood: flood + 1 == jwks.issuer.fetches)  # type: ignore[misc]  # its default has no type
        assert await jwks.takes(token)
        for bad in junk[MAX_WAITING:]:
            with pytest.raises(KeysUnavailable):
                await jwks.takes(bad)
        assert not any(call.done() for call in calls)
        jwks.issuer.gate.set()
        assert not any(await asyncio.gather(*calls))
        assert not any([await jwks.takes(bad) for bad in junk[:1000]])
        assert flood + 1 == jwks.issuer.fetches
    assert UNKNOWN_IDS >= jwks.keys.unknown_ids


async def test_token_with_junk_for_an_id_causes_no_fetch(jwks: PublishedKeys) -> None:
    await jwks.keys.open()
    jwks.clock.move(30)

    good = a_token()
    too_long = a_token(SECOND, header={"kid": "x" * 9000})
    no_id = a_token(a_signing_key("EdDSA", None))
    for token in ("", "a.b.c", good[:-4], too_long, no_id, "\ud800", good + "é"):
        assert not await jwks.takes(token)
    assert 1 == jwks.issuer.fetches


async def test_200_calls_at_once_wait_for_one_fetch(jwks: PublishedKeys) -> None:
    await jwks.keys.open()
    jwks.issuer.publish(FIRST, SECOND)
    jwks.clock.move(30)
    jwks.issuer.gate.clear()
    calls = [asyncio.create_task(jwks.takes(a_token(SECOND))) for _ in range(200)]
    await until(lambda: 2 == jwks.issuer.fetches)
    jwks.issuer.gate.set()

    assert all(await asyncio.gather(*calls))
    assert 2 == jwks.issuer.fetches


async def test_caller_that_goes_leaves_the_fetch_to_the_others(jwks: PublishedKeys) -> None:
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


async def test_issuer_that_is_down_at_first_is_asked_again_after_30_s(
    jwks: PublishedKeys,
) -> None:
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


async def test_call_without_keys_waits_for_the_fetch_that_brings_them(jwks: PublishedKeys) -> None:
    jwks.issuer.go_down()
    await jwks.keys.open()
    jwks.issuer.publish(FIRST)
    jwks.clock.move(30)

    assert all(await asyncio.gather(*(jwks.takes(a_token()) for _ in range(200))))
    assert 2 == jwks.issuer.fetches


async def test_issuer_that_cannot_be_reached_at_all_is_down(jwks: PublishedKeys) -> None:
    nowhere = JwksKeys("http://127.0.0.1:1/keys", clock=jwks.clock, sleep=jwks.clock.sleep)
    with capture_logs() as logs:
        await nowhere.open()
    await nowhere.close()

    assert ["ConnectError"] == [line["why"] for line in logs]
    assert not nowhere.current


async def test_old_keys_serve_for_an_hour_and_no_longer(jwks: PublishedKeys) -> None:
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


async def test_failed_fetches_keep_their_distance(jwks: PublishedKeys) -> None:
    await jwks.keys.open()
    jwks.issuer.go_down()
    await jwks.refreshed(300)

    for failures in range(1, 10):
        jwks.clock.move(29.9)
        assert not await jwks.takes(a_token(SECOND))
        assert 1 + failures == jwks.issuer.fetches
        await jwks.refreshed(0.1)
    assert await jwks.takes(a_token())


async def test_closing_ends_a_fetch_under_way(jwks: PublishedKeys) -> None:
    jwks.issuer.gate.clear()
    opening = asyncio.create_task(jwks.keys.open())
    await until(lambda: 1 == jwks.issuer.fetches)
    opening.cancel()
    await asyncio.wait([opening])

    async with asyncio.timeout(PATIENCE_S / 2):
        await jwks.keys.close()
    assert not jwks.keys.current
