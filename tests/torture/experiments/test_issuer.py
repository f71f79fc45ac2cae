"""Experiment 18: the issuer of keys is down, slow, huge and wrong, and key ids are made up.

By a clock that is moved, with every bound: tests/server/auth/test_jwks.py and test_jwks_answers.py.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator

import grpc
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.auth.jwks import MIN_DISTANCE_S
from support.bad_tokens import as_json, base64url
from support.issuer import Issuer, SigningKey, a_signing_key
from support.services import AUDIENCE, ISSUER
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.fleet import Fleet
from support.torture.load import reason_of

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

EXPERIMENT = Experiment(
    number=18,
    done="5,000 random key ids, while the issuer is down, slow, huge and wrong by turns",
    holds="at most 1 fetch in 30 s; callers with valid tokens are answered",
    protection="fetches keep their distance, and old keys serve meanwhile",
    removal="no distance between fetches",
    short_s=6,
    long_s=200,
)
IDS = 5000
AT_ONCE = 50
KEY = a_signing_key("EdDSA", "first")
VALID_S = 2.0
"""How long valid calls may take, at most, at their p99. A fetch may take 3 s."""


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer().running() as issuer:
        issuer.publish(KEY)
        yield issuer


def of(key: SigningKey) -> tuple[tuple[str, str], ...]:
    token = key.token(issuer=ISSUER, audience=AUDIENCE)
    return (("authorization", f"Bearer {token}"),)


async def misbehave(issuer: Issuer) -> None:
    """Be down, wrong, huge and slow by turns."""
    wrong = [b"", b"{", {"keys": 7}, b" " * 5_000_000]
    for number in itertools.count():
        issuer.gate.set()
        match number % (len(wrong) + 2):
            case 0:
                issuer.go_down()
            case 1:
                issuer.gate.clear()
            case way:
                issuer.reply(wrong[way - 2])
        await asyncio.sleep(0.5)


async def flood(fleet: Fleet, refused: list[str]) -> None:
    """Call with key ids that are made up."""
    rest = of(a_signing_key("ES256", "second"))[0][1].partition(".")[2]

    async def some(first: int) -> None:
        for number in range(first, IDS, AT_ONCE):
            token = f"{base64url(as_json({'alg': 'ES256', 'kid': f'made-up-{number}'}))}.{rest}"
            try:
                await fleet.any().ListConversations(
                    pb.ListConversationsRequest(),
                    timeout=30,
                    metadata=(("authorization", f"Bearer {token}"),),
                )
                refused.append("OK")
            except grpc.aio.AioRpcError as error:
                refused.append(reason_of(error))

    await asyncio.gather(*(some(first) for first in range(AT_ONCE)))


async def valid(fleet: Fleet, over: asyncio.Event, took: list[float], ends: list[str]) -> None:
    """Make turns with valid tokens."""
    while not over.is_set():
        began = time.monotonic()
        try:
            chat = pb.ChatRequest(message="hello")
            await fleet.any().Chat(chat, timeout=20, metadata=of(KEY))
        except grpc.aio.AioRpcError as error:
            ends.append(reason_of(error))
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.02)


async def attack(trial: Trial, issuer: Issuer) -> None:
    without = () if trial.is_protected else (trial.without,)
    async with trial.fleet(
        1, without=without, auth_hs256_secret="", auth_jwks_url=issuer.url
    ) as fleet:
        over, took, ends, refused = asyncio.Event(), [], [], []  # type: ignore[var-annotated]  # filled below
        calling = asyncio.create_task(valid(fleet, over, took, ends))
        misbehaving = asyncio.create_task(misbehave(issuer))
        began = time.monotonic()
        await flood(fleet, refused)
        while time.monotonic() < began + trial.seconds:
            await asyncio.sleep(0.1)
        misbehaving.cancel()
        issuer.gate.set()
        over.set()
        await calling
        seconds = time.monotonic() - began
    most = 2 + int(seconds / MIN_DISTANCE_S)
    trial.figures["fetches"] = f"{issuer.fetches} in {seconds:.0f} s"
    p99_s = statistics.quantiles(took, n=100)[98]
    trial.figures["p99 of valid calls"] = f"{p99_s * 1000:.0f} ms"
    trial.expect(issuer.fetches <= most, f"fetched: {issuer.fetches} times in {seconds:.0f} s")
    trial.expect(set(refused) == {"UNAUTHENTICATED"}, f"wrong: made-up ids: {set(refused)}")
    trial.expect(not ends, f"hurt: valid calls ended with {set(ends)}")
    trial.expect(p99_s < VALID_S, f"hurt: the p99 of valid calls is {p99_s:.1f} s")


async def test_made_up_key_ids_cause_one_fetch_and_hurt_nobody(lab: Lab, issuer: Issuer) -> None:
    await lab.holds(lambda trial: attack(trial, issuer))


@of_a_removal
async def test_fetches_without_distance_are_noticed(lab: Lab, issuer: Issuer) -> None:
    await lab.notices(
        lambda trial: attack(trial, issuer), without="calls.distance", because="fetched"
    )
