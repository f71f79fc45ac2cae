"""How much a worker takes on at once, and how much of it for one owner.

    Chat, StreamChat,
    ResumeTurn,
    StreamResumeTurn,
    RehearseTurn,
    AppendMessages       PARLEY_MAX_OPEN_CHATS; turns that go on without their caller count as well
    CancelTurn           as many, counted by themselves: the way to free a place is never taken
    WatchConversation,
    WatchTurns,
    ExportConversations  PARLEY_MAX_WATCHES; of exports, EXPORTS in addition
    all others           PARLEY_MAX_READS
    answers not taken    PARLEY_MAX_UNSENT_BYTES
    requests             HELD_REQUEST_BYTES, of all calls under way
    watches' messages    `unsent`

Of each, one owner may have a share, PARLEY_OWNER_SHARE: what goes beyond is refused before it costs
anything, and no other owner is refused for it. A call keeps its place until its answer is sent, and
until what it has begun has ended.

Answers that are not read stay in memory for as long as their connection does, and gRPC cannot take
them back. So an owner with too many of them is refused before its next call does anything. What was
read, or given before, may still be refused then, since it can be had again; all other answers are
sent.

Messages on their way are bounded too, and taken in turn between owners (`core.turnstile`). Of
callers without a token the newest are waited for.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from math import ceil
from typing import Any
from uuid import UUID

from parley_server.core.errors import Overloaded
from parley_server.core.tasks import Begun, begun_for_call
from parley_server.core.turnstile import Turnstile
from parley_server.rpc.layers.call_record import current_call
from parley_server.rpc.layers.places import Arrivals, Bytes, Capacity, Limited, Others
from parley_server.rpc.layers.types import Context, Method
from parley_server.rpc.layers.unsent import Unsent

RECEIVING = 32
"""How many requests' messages may be on their way at once: most are there with their metadata."""
RECEIVING_FROM_ONE = 8
"""How many of them may be one owner's."""
STRANGERS = 128
"""How many messages of callers without a token may be on their way at once."""
STRANGERS_OF_ONE = 8
"""How many of them may be one connection's."""
HEALTH_WATCHES = 500
"""How many watches of the worker's health there may be; they need no token."""
HEALTH_WATCHES_OF_ONE = 4
"""How many of them may be one connection's."""
EXPORTS = 100
"""How many exports there may be. Each holds a page of 1 MiB that its caller has not taken yet."""
EXPORTS_OF_ONE = 10
"""How many of them may be one owner's."""
HELD_REQUEST_BYTES = 128 * 1024 * 1024
"""How much the requests of all calls under way may be. A call that waits for a conversation holds
its message for minutes, and costs its caller nothing."""
SENDING = 4
"""How many messages of streams are made in one round of the loop. Others wait in turn."""
SHORT_CALLS_OF_ONE = 6
"""How many short calls of one owner are carried out at once: with 160, others' turns would wait. Of
all owners, as many as may be open."""
SHORT_CALL_S = 10.0
"""How long one waits for that."""
PAGES = 8
"""How many pages are read and made at once, each for another owner. Others wait in turn."""
PAGE_REST = 3
"""How long an owner's next page waits beside others' turns, in times of what the last one took."""
PAGE_REST_S = 0.1
"""And at most: what a page took may be the wait for a database that was away."""


class Admission:
    """A worker's places, by method."""

    def __init__(
        self,
        *,
        max_open_chats: int,
        max_reads: int,
        max_watches: int,
        max_unsent_bytes: int,
        owner_share: float,
        left_behind: Others,
    ) -> None:
        """Make room.

        Args:
            owner_share: how much of everything one owner may have, above 0 and up to 1.
            left_behind: how many turns go on without a call, by owner.
        """

        def shared(limit: int, others: Others = dict) -> Capacity:
            return Capacity(limit, ceil(limit * owner_share), others=others)

        self.open_chats = shared(max_open_chats, left_behind)
        self.reads = shared(max_reads)
        self.watches = shared(max_watches)
        self.health_watches = Capacity(HEALTH_WATCHES, HEALTH_WATCHES_OF_ONE)
        self.cancels = shared(max_open_chats)
        self.exports = Capacity(EXPORTS, EXPORTS_OF_ONE)
        self._by_method: Mapping[str, Capacity] = {
            "Chat": self.open_chats,
            "StreamChat": self.open_chats,
            "ResumeTurn": self.open_chats,
            "StreamResumeTurn": self.open_chats,
            "RehearseTurn": self.open_chats,
            "AppendMessages": self.open_chats,
            "CancelTurn": self.cancels,
            "WatchConversation": self.watches,
            "WatchTurns": self.watches,
            "ExportConversations": self.watches,
        }
        self.unsent = Bytes(max_unsent_bytes, owner_share)
        self.held_requests = Bytes(HELD_REQUEST_BYTES, owner_share)
        self.unsent_of_watches = Unsent()
        self.sending = Turnstile(SENDING)
        self.pages = Turnstile(PAGES, width_of_key=1)
        self.short_calls = Turnstile(max(max_reads, 1), width_of_key=SHORT_CALLS_OF_ONE)
        self.receiving = Turnstile(RECEIVING, width_of_key=RECEIVING_FROM_ONE)
        self.strangers = Arrivals(STRANGERS, STRANGERS_OF_ONE)

    def capacity_for(self, method: str) -> Capacity:
        """Return where a method's calls take a place."""
        return self._by_method.get(method, self.reads)

    @asynccontextmanager
    async def page_of(self, owner: UUID) -> AsyncIterator[None]:
        """Wait for the owner's turn to have a page made, inside the block.

        An owner that reads page after page while others chat has a part of the worker, not all of
        it: its next page waits, its answers do not.
        """
        loop = asyncio.get_running_loop()
        await self.pages.enter(owner)
        began = loop.time()
        rest_s = 0.0
        try:
            yield
            if self.open_chats.has_others(owner):
                rest_s = min(PAGE_REST * (loop.time() - began), PAGE_REST_S)
        finally:
            begun = begun_for_call.get() or Begun()
            begun.when_done(lambda: self.pages.leave(owner, rest_s=rest_s))

    def limited(self) -> Mapping[str, Limited]:
        """Return everything that is limited, by the name that metrics have for it."""
        return {
            "open_chats": self.open_chats,
            "cancels": self.cancels,
            "reads": self.reads,
            "watches": self.watches,
            "exports": self.exports,
            "health_watches": self.health_watches,
            "held_request_bytes": self.held_requests,
            "unsent_answer_bytes": self.unsent,
            "unsent_watch_bytes": self.unsent_of_watches,
            "short_calls": self.short_calls,
            "pages": self.pages,
            "requests_arriving": self.receiving,
            "strangers_requests_arriving": self.strangers,
        }


def admitted(
    places: Capacity, unsent: Bytes, method: Method, *, is_read: bool, is_turn: bool
) -> Method:
    """Take a place until the answer is sent, and count the answer until then if it comes whole.

    An owner that leaves its answers untaken is refused here, before anything is done for it.

    Args:
        is_read: the call changes nothing: its answer may be thrown away and asked for again.
        is_turn: what goes on without the call is counted by itself, as `left_behind`. Else the call
            keeps its place for it: callers that begin something and leave at once would have no end
            of it under way.
    """

    async def with_place(request: Any, context: Context) -> Any:
        owner = current_call.get().owner_id
        unsent.check(owner)
        places.take(owner)
        if is_turn:
            context.add_done_callback(lambda _: places.leave(owner))  # type: ignore[arg-type] # by position
        else:
            begun = Begun()
            begun_for_call.set(begun)
            context.add_done_callback(
                lambda _: begun.when_done(lambda: places.leave(owner))  # type: ignore[arg-type] # by position
            )
        answer = await method(request, context)
        if answer is not None:
            size = answer.ByteSize()
            if is_read or _is_replay(answer):
                try:
                    unsent.check(owner, size)
                except Overloaded:
                    del answer  # the error holds on to this frame, for as long as it is told
                    raise
            unsent.add(owner, size)
            context.add_done_callback(
                lambda _: unsent.remove(owner, size)  # type: ignore[arg-type] # the same
            )
        return answer

    return with_place


def in_turn(places: Turnstile, method: Method) -> Method:
    """Carry out so many calls of each owner at once, the others behind them."""

    async def with_turn(request: Any, context: Context) -> Any:
        owner = current_call.get().owner_id
        if not places.enter_at_once(owner):
            try:
                async with asyncio.timeout(SHORT_CALL_S):
                    await places.enter(owner)
            except TimeoutError:
                raise Overloaded(is_owner_only=True) from None
        try:
            return await method(request, context)
        finally:
            places.leave(owner)

    return with_turn


def _is_replay(answer: Any) -> bool:
    """Whether an earlier call was given this answer, so that the same call gets it once more."""
    return bool(getattr(getattr(answer, "chat", answer), "replayed", False))


def limited(places: Capacity, method: Method) -> Method:
    """Take a place, of those that a connection may have, for as long as the call lasts."""

    async def with_place(request: Any, context: Context) -> Any:
        key = context.peer()
        places.take(key)
        try:
            return await method(request, context)
        finally:
            places.leave(key)

    return with_place
