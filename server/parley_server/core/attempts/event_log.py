"""The events of an attempt that a stream has started: gathered, stored, then shown."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from parley_server.core.errors import StoreUnavailable
from parley_server.core.failures import raised_at
from parley_server.core.model import StoredEvent, Text, ToolCall
from parley_server.core.tasks import RETRY_PAUSE_S

log = logging.getLogger("parley.turns")

GATHER_S = 0.05
"""How long text is gathered for a chunk. The first piece goes out at once."""
GATHER_BYTES = 2048
"""How much text makes a chunk before its time."""

Append = Callable[[list[StoredEvent]], Awaitable[bool]]
"""Stores events. False: the attempt has lost its lease."""


class EventLog:
    """Stores what an agent says before anybody is shown it.

    While events are being stored more is gathered, so chunks grow under load and the delay stays
    bounded. What is still gathered when the attempt ends is not stored: it is in the answer.
    """

    def __init__(
        self, append: Append, on_stored: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        self.stored: list[StoredEvent] = []
        """What has been stored, by index; shown to the followers on this worker."""
        self._append = append
        self._on_stored = on_stored
        self._on_lost = on_lost
        self._gathered: list[Text | ToolCall] = []
        self._text_bytes = 0
        self._has_tool_call = False
        self._next_store_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._storing: asyncio.Task[None] | None = None
        self._is_closed = False

    def add(self, event: Text | ToolCall) -> None:
        """Take an event of the agent's, fit to be stored."""
        if isinstance(event, Text):
            if not event.text:
                return
            self._text_bytes += len(event.text.encode())
        else:
            self._has_tool_call = True
        self._gathered.append(event)
        self._store_when_due()

    async def close(self) -> None:
        """Store nothing more; returns once nothing is on its way to the database."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._storing is not None:
            await asyncio.wait([self._storing])

    def _store_when_due(self) -> None:
        if self._is_closed or self._storing is not None or not self._gathered:
            return
        loop = asyncio.get_running_loop()
        is_full = self._has_tool_call or self._text_bytes >= GATHER_BYTES
        if is_full or loop.time() >= self._next_store_at:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            # Counted from when it was due: else each delay would put off all that comes after it.
            now = loop.time()
            is_steady = 0 <= now - self._next_store_at < GATHER_S
            self._next_store_at = (self._next_store_at if is_steady else now) + GATHER_S
            self._storing = asyncio.create_task(self._store())
        elif self._timer is None:
            self._timer = loop.call_at(self._next_store_at, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._store_when_due()

    async def _store(self) -> None:
        events = _merged(self._gathered, first_index=len(self.stored))
        self._gathered = []
        self._text_bytes, self._has_tool_call = 0, False
        is_told = False
        while not self._is_closed:
            try:
                is_ours = await self._append(events)
            except Exception as error:
                if not isinstance(error, StoreUnavailable) and not is_told:
                    is_told = True
                    log.exception("events not stored", extra={"place": raised_at(error)})
                await asyncio.sleep(RETRY_PAUSE_S)  # storing them twice stores them once
                continue
            if is_ours:
                self.stored.extend(events)
                self._on_stored()
            else:
                self._is_closed = True
                self._on_lost()
            break
        self._storing = None
        self._store_when_due()


def _merged(gathered: list[Text | ToolCall], first_index: int) -> list[StoredEvent]:
    """Return the events with neighbouring texts as one chunk, numbered."""
    events: list[Text | ToolCall] = []
    for event in gathered:
        if isinstance(event, Text) and events and isinstance(last := events[-1], Text):
            events[-1] = Text(last.text + event.text)
        else:
            events.append(event)
    return [StoredEvent(first_index + n, event) for n, event in enumerate(events)]
