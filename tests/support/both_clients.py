"""Calls and streams through either client, for tests that hold for both."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from parley_client import AsyncParleyClient, ParleyClient
from support.services import a_token

Ask = Callable[..., Awaitable[Any]]
Streaming = Callable[..., AsyncGenerator[Any, None]]


async def ask_async(address: str, method: str, *args: Any, **options: Any) -> Any:
    """Make a call through the asynchronous client; return all that it iterates over, if it does."""
    async with AsyncParleyClient(address, token=a_token()) as client:
        result = getattr(client, method)(*args, **options)
        if hasattr(result, "__aiter__"):
            return [each async for each in result]
        return await result


async def ask_sync(address: str, method: str, *args: Any, **options: Any) -> Any:
    """Make a call through the synchronous client, in a thread."""

    def make() -> Any:
        with ParleyClient(address, token=a_token()) as client:
            result = getattr(client, method)(*args, **options)
            return list(result) if hasattr(result, "__next__") else result

    return await asyncio.to_thread(make)


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
