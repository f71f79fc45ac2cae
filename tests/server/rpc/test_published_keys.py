"""A service whose keys are an issuer's: what callers see when keys come, change and are missing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from parley.v1 import conversation_service_pb2 as pb
from parley_server.auth import jwks
from support.issuer import Issuer, SigningKey, a_signing_key
from support.services import (
    AUDIENCE,
    ISSUER,
    Service,
    StartService,
    a_token,
    details_of,
    gathered,
    refused,
)

KEYS = [a_signing_key(algorithm, algorithm) for algorithm in ("RS256", "ES256", "EdDSA")]
FIRST, SECOND, THIRD = KEYS
PATIENCE_S = 30.0


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer().running() as issuer:
        issuer.publish(*KEYS)
        yield issuer


@pytest.fixture
async def start(start_service: StartService, issuer: Issuer) -> StartService:
    async def start() -> Service:
        return await start_service(
            auth_hs256_secret=None,
            auth_jwks_url=issuer.url,
            grpc_max_streams=1000,  # calls that wait for keys leave room for others on the channel
        )

    return start


def chat(service: Service, token: str, message: str = "hello") -> Any:
    headers = (("authorization", f"Bearer {token}"),)
    return service.stub.Chat(pb.ChatRequest(message=message), metadata=headers, timeout=20)


def of(key: SigningKey, **claims: Any) -> str:
    return key.token(issuer=ISSUER, audience=AUDIENCE, **claims)


async def health(service: Service) -> str:
    answer = await health_pb2_grpc.HealthStub(service.channel).Check(
        health_pb2.HealthCheckRequest(), timeout=20
    )
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def until_health(service: Service, status: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await health(service) != status:
            await asyncio.sleep(0.05)


async def test_tokens_are_checked_with_the_keys_that_the_issuer_publishes(
    start: StartService, issuer: Issuer
) -> None:
    service = await start()

    for key in KEYS:
        assert "HELLO" == (await chat(service, of(key))).response
    stranger = a_signing_key("EdDSA", "EdDSA")
    for token in (of(stranger), a_token(), of(FIRST)[:-3]):
        assert ("UNAUTHENTICATED", "UNAUTHENTICATED") == await refused(chat(service, token))
    assert 1 == issuer.fetches
    assert "SERVING" == await health(service)


async def test_service_starts_while_the_issuer_is_down_and_serves_once_it_is_up(
    start: StartService, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when readiness follows the database alone: calls would be sent here."""
    issuer.go_down()
    with capture_logs() as logs:
        service = await start()
    assert "the issuer's keys cannot be fetched" in [line["event"] for line in logs]
    assert "NOT_SERVING" == await health(service)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat(service, of(FIRST))
    assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
    info, retry = details_of(caught.value)
    assert "KEYS_UNAVAILABLE" == info.reason
    assert isinstance(retry, RetryInfo)
    assert ("UNAUTHENTICATED", "UNAUTHENTICATED") == await refused(
        service.stub.Chat(pb.ChatRequest(message="hello"), timeout=20)
    )

    issuer.publish(*KEYS)
    monkeypatch.setattr(jwks, "MIN_DISTANCE_S", 0.0)
    answers = await gathered(*(chat(service, of(FIRST)) for _ in range(50)))
    assert ["HELLO"] * 50 == [answer.response for answer in answers]
    await until_health(service, "SERVING")


async def test_token_of_a_rotated_key_is_taken_by_200_calls_with_one_fetch(
    start: StartService, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.publish(FIRST)
    service = await start()
    token = of(FIRST)
    assert "HELLO" == (await chat(service, token)).response

    issuer.publish(THIRD)
    assert ("UNAUTHENTICATED", "UNAUTHENTICATED") == await refused(chat(service, of(THIRD)))
    assert 1 == issuer.fetches
    issuer.gate.clear()
    monkeypatch.setattr(jwks, "MIN_DISTANCE_S", 0.0)
    calls = asyncio.gather(*(chat(service, of(THIRD)) for _ in range(200)))
    async with asyncio.timeout(PATIENCE_S):
        while issuer.fetches < 2:
            await asyncio.sleep(0.01)
    monkeypatch.undo()
    assert "HELLO" == (await chat(service, token)).response  # waits for nobody
    issuer.gate.set()

    assert {"HELLO"} == {answer.response for answer in await calls}
    assert 2 == issuer.fetches
    assert ("UNAUTHENTICATED", "UNAUTHENTICATED") == await refused(chat(service, token))


@pytest.mark.slow
async def test_service_without_fresh_keys_for_too_long_says_so(
    start: StartService, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await start()
    issuer.go_down()
    token = of(FIRST)
    assert "HELLO" == (await chat(service, token)).response

    monkeypatch.setattr(jwks, "KEEP_S", 0.0)  # the hour is over
    assert ("UNAVAILABLE", "KEYS_UNAVAILABLE") == await refused(chat(service, token))
    await until_health(service, "NOT_SERVING")
    monkeypatch.undo()
    assert "HELLO" == (await chat(service, token)).response
    await until_health(service, "SERVING")
