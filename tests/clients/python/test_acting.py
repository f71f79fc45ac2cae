"""A client that acts for users: one channel, one token, a user a call."""

import asyncio
from typing import Any

import grpc
import pytest

from parley_client import AsyncParleyClient, ParleyClient, ScopeMissing
from support.services import Service, a_token, an_id

SCOPES = "parley.read parley.write parley.act"
USERS = ["ada", "Jürgen 100%", "ada@example.com"]


async def test_async_client_acts_for_users(service: Service) -> None:
    address = f"127.0.0.1:{service.port}"
    async with AsyncParleyClient(address, token=a_token("backend", scope=SCOPES)) as backend:
        for user in USERS:
            client = backend.acting_for(user)
            answer = await client.chat("hello", request_id=an_id())
            events = [event async for event in client.stream("and?")]
            listed = [c.conversation_id async for c in client.conversations()]

            assert [events[-1].completed.conversation_id, answer.conversation_id] == listed
            own = await service.conversations(user=user)
            assert listed == [c.conversation_id for c in own.conversations]
        assert [] == [c async for c in backend.conversations()]


async def test_sync_client_acts_for_users(service: Service) -> None:
    def talk() -> dict[str, list[str]]:
        with ParleyClient(address, token=a_token("backend", scope=SCOPES)) as backend:
            seen = {}
            for user in USERS:
                client = backend.acting_for(user)
                client.chat("hello")
                list(client.stream("and?"))
                seen[user] = [c.conversation_id for c in client.conversations()]
            assert [] == list(backend.conversations())
            return seen

    address = f"127.0.0.1:{service.port}"
    for user, seen in (await asyncio.to_thread(talk)).items():
        own = await service.conversations(user=user)
        assert 2 == len(seen)
        assert seen == [c.conversation_id for c in own.conversations]


def count_channels(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[Any]:
    """Return a list that will hold every channel that is opened from now on."""
    opened: list[Any] = []
    real = module.insecure_channel

    def open_channel(*arguments: Any) -> Any:
        opened.append(real(*arguments))
        return opened[-1]

    monkeypatch.setattr(module, "insecure_channel", open_channel)
    return opened


async def test_client_that_acts_shares_the_channel_and_leaves_it_open(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = count_channels(monkeypatch, grpc.aio)
    address = f"127.0.0.1:{service.port}"
    async with AsyncParleyClient(address, token=a_token("backend", scope=SCOPES)) as backend:
        async with backend.acting_for("ada") as ada, ada.acting_for("bob") as bob:
            await ada.chat("hello")
        await bob.chat("hello")
        assert "HELLO" == (await backend.chat("hello")).response
        assert 1 == len(opened)
        await backend.close()
        assert "HELLO" == (await ada.chat("hello")).response  # the first call opens it again
        assert "HELLO" == (await backend.chat("hello")).response
        assert 2 == len(opened)


async def test_sync_client_that_acts_shares_the_channel_and_leaves_it_open(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = count_channels(monkeypatch, grpc)

    def talk() -> None:
        address = f"127.0.0.1:{service.port}"
        with ParleyClient(address, token=a_token("backend", scope=SCOPES)) as backend:
            with backend.acting_for("ada") as ada, ada.acting_for("bob") as bob:
                ada.chat("hello")
            bob.chat("hello")
            backend.chat("hello")

    await asyncio.to_thread(talk)
    assert 1 == len(opened)


async def test_acting_without_the_scope_says_which_one_is_missing(service: Service) -> None:
    async with AsyncParleyClient(f"127.0.0.1:{service.port}", token=a_token()) as client:
        with pytest.raises(ScopeMissing, match=r"lacks the scope parley\.act"):
            await client.acting_for("ada").chat("hello")


@pytest.mark.parametrize("kind", [AsyncParleyClient, ParleyClient])
def test_name_that_cannot_be_sent_is_refused_at_once(kind: Any) -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        kind().acting_for("\ud800")
