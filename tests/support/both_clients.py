"""Streams through either client, for tests that hold for both."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from parley_client import AsyncParleyClient, ParleyClient
from support.services import a_token

Streaming = Callable[..., AsyncGenerator[Any, None]]


async def through_async(address: str, method: str, *args: Any, **options: Any) -> Any:
    """Iterate over a stream of the asynchronous client's."""
    async with AsyncParleyClient(address, token=a_token(), credentials="plaintext") as client:
        events = getattr(client, method)(*args, **options)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()


async def through_sync(address: str, method: str, *args: Any, **options: Any) -> Any:
    """Iterate over a stream of the synchronous client's, each step in a thread."""
    with ParleyClient(address, token=a_token(), credentials="plaintext") as client:
        events = getattr(client, method)(*args, **options)
        try:
            while (event := await asyncio.to_thread(next, events, None)) is not None:
                yield event
        finally:
            await asyncio.to_thread(events.close)
