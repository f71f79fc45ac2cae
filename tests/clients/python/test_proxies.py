"""Proxies that variables name: none gets to see what has to go straight to the server."""

import asyncio

import pytest

from parley_client import AsyncParleyClient, ParleyClient, Unavailable
from parley_client.channels import Credentials
from support.scripted_server import an_answer, scripted
from support.web_proxies import RecordingProxy


async def said(kind: str, address: str, credentials: Credentials = None) -> str:
    """Chat by a client of either kind."""
    if kind == "async":
        async with AsyncParleyClient(address, token="t", credentials=credentials) as client:
            return (await client.chat("hello", timeout_s=5)).response

    def chat() -> str:
        with ParleyClient(address, token="t", credentials=credentials) as client:
            return client.chat("hello", timeout_s=5).response

    return await asyncio.to_thread(chat)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_no_proxy_stands_between_a_client_and_a_server_on_this_machine(
    proxy: RecordingProxy, kind: str
) -> None:
    """Fails without grpc.enable_http_proxy: gRPC asks the proxy for the server, token and all."""
    async with scripted(an_answer()) as server:
        for address in (server.address, f"localhost:{server.port}"):
            assert "HELLO" == await said(kind, address)
    assert [] == proxy.asked


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_no_proxy_is_sent_plaintext_for_another_machine(
    proxy: RecordingProxy, kind: str
) -> None:
    with pytest.raises(Unavailable):
        await said(kind, "parley.invalid:50051", "plaintext")
    assert [] == proxy.asked


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_tls_to_another_machine_goes_through_the_proxy(
    proxy: RecordingProxy, kind: str
) -> None:
    with pytest.raises(Unavailable):
        await said(kind, "parley.invalid:443")
    assert {"CONNECT parley.invalid:443 HTTP/1.1"} == set(proxy.asked)
