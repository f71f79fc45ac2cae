"""Callers of every kind, who go on until they are told to stop."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from support.services import a_token, an_id
from support.soak.agent import ANSWER
from support.waiting import WEATHER, result

ASKING = "asking"
"""The agent that asks its caller; the default one repeats what it is told."""
TIMEOUT_S = 30
TOKEN_S = 24 * 3600
WATCH_S = 3.0
WORDS = "What was said before is the start of what is said now. "
TURNS = 5
"""In a conversation that a caller talks in, before it is deleted."""
ENDED = {cpb.TURN_STATE_COMPLETED, cpb.TURN_STATE_FAILED, cpb.TURN_STATE_CANCELLED}


class MixedLoad:
    """What is done, how often, and what went wrong."""

    def __init__(self, stubs: list[Any], owners: int = 8) -> None:
        """Make the callers; none calls yet.

        Args:
            stubs: of the workers, which are called at random.
        """
        self.done: Counter[str] = Counter()
        """By kind, how often it came to its end."""
        self.failures: Counter[str] = Counter()
        """By kind and status."""
        self._stubs = stubs
        self._owners = [f"owner-{number}" for number in range(owners)]
        # One token each: a worker remembers those that it has seen, thousands of them.
        self._metadata = {
            owner: (("authorization", f"Bearer {a_token(owner, ttl_s=TOKEN_S)}"),)
            for owner in self._owners
        }
        self._open: dict[str, list[str]] = {owner: [] for owner in self._owners}
        """The conversations that are there now, of each owner."""
        self._is_over = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call for the block, then until what is under way has ended."""
        kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.turns: 6,
            self.streams: 4,
            self.left_streams: 2,
            self.watches: 3,
            self.reads: 3,
            self.cancels: 2,
            self.started: 3,
            self.waiting: 2,
            self.feeds: 1,
        }
        calling = [
            asyncio.create_task(self._repeat(kind))
            for kind, callers in kinds.items()
            for _ in range(callers)
        ]
        try:
            yield
        finally:
            self._is_over = True
            await asyncio.gather(*calling)

    async def _repeat(self, kind: Callable[[], Awaitable[None]]) -> None:
        name = kind.__name__
        while not self._is_over:
            try:
                await kind()
                self.done[name] += 1
            except grpc.aio.AioRpcError as error:
                self.failures[f"{name}: {error.code().name}: {error.details()}"] += 1
                await asyncio.sleep(0.1)

    def _stub(self) -> Any:
        return random.choice(self._stubs)

    def _said(self) -> str:
        return WORDS * random.randint(1, 20)

    @asynccontextmanager
    async def _conversation(self) -> AsyncIterator[tuple[str, str]]:
        """Have a conversation for the block, and delete it. Yields: its owner and its id."""
        owner, identity = random.choice(self._owners), an_id()
        self._open[owner].append(identity)
        try:
            yield owner, identity
        finally:
            self._open[owner].remove(identity)
            request = pb.DeleteConversationRequest(conversation_id=identity, allow_missing=True)
            await self._call("DeleteConversation", owner, request)
            self.done["deletes"] += 1

    async def _call(self, name: str, owner: str, request: Any) -> Any:
        return await getattr(self._stub(), name)(
            request, timeout=TIMEOUT_S, metadata=self._metadata[owner]
        )

    def _chat(self, identity: str, **fields: Any) -> pb.ChatRequest:
        return pb.ChatRequest(
            conversation_id=identity,
            message=self._said(),
            request_id=an_id(),
            allow_missing=True,
            **fields,
        )

    # What callers do

    async def turns(self) -> None:
        async with self._conversation() as (owner, identity):
            for _ in range(TURNS):
                request = self._chat(identity)
                answer = await self._call("Chat", owner, request)
                assert request.message == answer.response

    async def streams(self) -> None:
        async with self._conversation() as (owner, identity):
            for _ in range(TURNS):
                request = pb.StreamChatRequest(chat=self._chat(identity))
                stream = self._stub().StreamChat(
                    request, timeout=TIMEOUT_S, metadata=self._metadata[owner]
                )
                events = [event async for event in stream]
                assert request.chat.message == events[-1].completed.response

    async def left_streams(self) -> None:
        """Leave a stream in its midst: its turn ends with its caller."""
        async with self._conversation() as (owner, identity):
            chat = self._chat(identity, on_disconnect=pb.ON_DISCONNECT_CANCEL)
            stream = self._stub().StreamChat(
                pb.StreamChatRequest(chat=chat), timeout=TIMEOUT_S, metadata=self._metadata[owner]
            )
            await stream.read()
            stream.cancel()

    async def watches(self) -> None:
        """Watch a conversation of somebody's, for a while."""
        owner = random.choice(self._owners)
        if not self._open[owner]:
            await asyncio.sleep(0.01)
            return
        request = pb.WatchConversationRequest(conversation_id=random.choice(self._open[owner]))
        watch = self._stub().WatchConversation(
            request, timeout=TIMEOUT_S, metadata=self._metadata[owner]
        )
        await _for_a_while(watch, "NOT_FOUND")  # it may not be there yet, or not any more

    async def reads(self) -> None:
        owner = random.choice(self._owners)
        page = await self._call("ListConversations", owner, pb.ListConversationsRequest())
        for conversation in itertools.islice(page.conversations, 3):
            request = pb.GetHistoryRequest(conversation_id=conversation.conversation_id)
            try:
                await self._call("GetHistory", owner, request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:  # deleted meanwhile
                    raise

    async def cancels(self) -> None:
        async with self._conversation() as (owner, identity):
            turn = await self._start(owner, self._chat(identity))
            request = pb.CancelTurnRequest(conversation_id=identity, turn_id=turn.turn_id)
            await self._call("CancelTurn", owner, request)
            await self._until_ended(owner, turn)

    async def started(self) -> None:
        async with self._conversation() as (owner, identity):
            turns = [await self._start(owner, self._chat(identity)) for _ in range(3)]
            for turn in turns:
                assert cpb.TURN_STATE_COMPLETED == await self._until_ended(owner, turn)

    async def waiting(self) -> None:
        """Have a turn wait for its caller, and give it what it waits for."""
        async with self._conversation() as (owner, identity):
            asked = self._chat(identity, agent=ASKING, tools=[WEATHER])
            waits = await self._call("Chat", owner, asked)
            results = [result(call) for call in waits.pending_calls]
            request = pb.ResumeTurnRequest(
                conversation_id=identity, turn_id=waits.turn_id, results=results
            )
            ends = await self._call("ResumeTurn", owner, request)
            assert ANSWER == ends.chat.response

    async def feeds(self) -> None:
        """Follow an owner's turns for a while."""
        feed = self._stub().WatchTurns(
            pb.WatchTurnsRequest(only_new=True),
            timeout=TIMEOUT_S,
            metadata=self._metadata[random.choice(self._owners)],
        )
        await _for_a_while(feed)

    async def _start(self, owner: str, chat: pb.ChatRequest) -> Any:
        accepted = await self._call("StartTurn", owner, pb.StartTurnRequest(chat=chat))
        return accepted.turn

    async def _until_ended(self, owner: str, turn: Any) -> int:
        request = pb.GetTurnRequest(conversation_id=turn.conversation_id, turn_id=turn.turn_id)
        while True:
            found = await self._call("GetTurn", owner, request)
            if found.turn.state in ENDED:
                return int(found.turn.state)
            await asyncio.sleep(0.05)


async def _for_a_while(stream: Any, *but: str) -> None:
    """Read a stream until it ends or WATCH_S have passed. Statuses `but` count as its end."""
    try:
        async with asyncio.timeout(WATCH_S):
            async for _ in stream:
                pass
    except TimeoutError:
        stream.cancel()
    except grpc.aio.AioRpcError as error:
        if error.code().name not in but:
            raise
