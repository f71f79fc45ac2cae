"""The asynchronous client behind the surface of the synchronous one, for the same runner."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

from parley_client import AsyncParleyClient

_STREAMS = frozenset(
    {
        "stream",
        "stream_resume_turn",
        "rehearse_turn",
        "watch",
        "watch_turns",
        "history",
        "conversations",
        "export",
    }
)


class BridgedClient:
    """An AsyncParleyClient on an event loop in a separate thread."""

    def __init__(self, address: str, *, token: str | None) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._client = AsyncParleyClient(address, token=token, credentials="plaintext")

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name in _STREAMS:
            return lambda **options: self._iterate(method(**options))
        return lambda **options: self._run(method(**options))

    def close(self) -> None:
        self._run(self._client.close())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _iterate(self, items: Any) -> Iterator[Any]:
        end = object()

        async def next_one() -> Any:
            return await anext(items, end)

        try:
            while (item := self._run(next_one())) is not end:
                yield item
        finally:
            self._run(items.aclose())
