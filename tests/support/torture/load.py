"""Callers that do several kinds of things at once, and write down what they were told."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from support.services import an_id, details_of, metadata, trailing_of
from support.torture.operations import NOTHING_STORED, Kind, Log, Operation, Outcome, Said

OWNERS = 3
SETTLE_S = 45.0
"""How long the requests under way may take once the load is over."""
PAUSE_S = 0.05
FINAL = {"TURN_SUPERSEDED", "ATTEMPTS_EXHAUSTED", "CANCELLED"}
"""After these a caller does not repeat its call: another answer will not come."""
MIXED: Mapping[Kind, int] = {Kind.CHAT: 5, Kind.STREAM: 3, Kind.START: 2, Kind.READ: 2}
_PAGE = 1000


@dataclass(frozen=True)
class Request:
    """What a caller wants, however often it has to say so."""

    kind: Kind
    conversation_id: str
    message: str
    request_id: str = field(default_factory=an_id)
    on_busy: int = pb.ON_BUSY_WAIT
    expected_sequence: int | None = None
    user: str = "ada"

    @property
    def chat(self) -> pb.ChatRequest:
        return pb.ChatRequest(
            conversation_id=self.conversation_id,
            message=self.message,
            request_id=self.request_id,
            allow_missing=True,
            on_busy=self.on_busy,  # type: ignore[arg-type]  # an enum's value
            expected_sequence=self.expected_sequence,
        )


async def call(stub: Any, request: Request, log: Log, *, timeout: float = 20) -> Operation:
    """Make one call, write down how it ended, and return that.

    Guarantees: a call that is cancelled is written down as unknown.
    """
    told = Operation(
        request.kind,
        request.conversation_id,
        request.request_id,
        request.message,
        start=time.monotonic(),
        end=0,
        outcome=Outcome.UNKNOWN,
        reason="CANCELLED",
        expected_sequence=request.expected_sequence,
    )
    try:
        how = _CALLS[request.kind]
        told = replace(told, outcome=Outcome.OK, reason="", **await how(stub, request, timeout))
    except grpc.aio.AioRpcError as error:
        reason = reason_of(error)
        outcome = Outcome.REFUSED if reason in NOTHING_STORED else Outcome.UNKNOWN
        told = replace(told, outcome=outcome, reason=reason)
    finally:
        told = replace(told, end=time.monotonic())
        log.operations.append(told)
    return told


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the error's reason if a worker has said one, else gRPC's code."""
    if "grpc-status-details-bin" in trailing_of(error):
        for detail in details_of(error):
            if reason := getattr(detail, "reason", ""):
                return str(reason)
    return error.code().name


async def _chat(stub: Any, request: Request, timeout: float) -> dict[str, Any]:
    answer = await stub.Chat(request.chat, timeout=timeout, metadata=metadata(request.user))
    return _told(answer)


async def _stream(stub: Any, request: Request, timeout: float) -> dict[str, Any]:
    asked = pb.StreamChatRequest(chat=request.chat)
    stream = stub.StreamChat(asked, timeout=timeout, metadata=metadata(request.user))
    last = [event async for event in stream][-1]
    return _told(last.completed)


def _told(answer: pb.ChatResponse) -> dict[str, Any]:
    return {
        "conversation_id": answer.conversation_id,
        "turn_id": answer.turn_id,
        "user_sequence": answer.user_sequence,
        "response_sequence": answer.response_sequence,
        "response": answer.response,
    }


async def _start(stub: Any, request: Request, timeout: float) -> dict[str, Any]:
    asked = pb.StartTurnRequest(chat=request.chat)
    accepted = await stub.StartTurn(asked, timeout=timeout, metadata=metadata(request.user))
    turn = accepted.turn
    return {"turn_id": turn.turn_id, "conversation_id": turn.conversation_id}


async def _read(stub: Any, request: Request, timeout: float) -> dict[str, Any]:
    seen: list[Said] = []
    while True:
        page = await stub.GetHistory(
            pb.GetHistoryRequest(
                conversation_id=request.conversation_id,
                page_size=_PAGE,
                after_sequence=seen[-1].sequence if seen else 0,
            ),
            timeout=timeout,
            metadata=metadata(request.user),
        )
        seen += [
            Said(each.sequence, cpb.Role.Name(each.role).removeprefix("ROLE_"), each.content)
            for each in page.messages
        ]
        if not page.next_page_token:
            return {"seen": tuple(seen)}


_CALLS = {Kind.CHAT: _chat, Kind.STREAM: _stream, Kind.START: _start, Kind.READ: _read}


class Load:
    """Callers that talk in conversations which they share."""

    def __init__(
        self,
        any_stub: Callable[[], Any],
        log: Log,
        *,
        callers: int = 16,
        conversations: int = 6,
        kinds: Mapping[Kind, int] = MIXED,
        call_s: float = 20,
        settle_s: float = SETTLE_S,
        keeps_request_ids: bool = True,
    ) -> None:
        """Make the callers.

        Args:
            any_stub: whom the next call goes to.
            kinds: what is called, with weights.
            call_s: each call's deadline.
            settle_s: how long requests under way may take at the end.
            keeps_request_ids: False: a call is repeated under another request id. This is the
                protection that callers have in hand, removed.
        """
        self._any_stub = any_stub
        self._log = log
        self._callers = callers
        self._ids = [an_id() for _ in range(conversations)]
        self._kinds = kinds
        self._call_s = call_s
        self._settle_s = settle_s
        self._keeps_request_ids = keeps_request_ids
        self._is_over = False
        self._answered: list[Request] = []
        self._last: dict[str, int] = {}
        self.unanswered = 0
        """Requests that were given up at the end, undecided."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        """Call for the block, and then until what is under way is decided."""
        calling = [asyncio.create_task(self._talk(number)) for number in range(self._callers)]
        try:
            yield self
        finally:
            self._is_over = True
            _, late = await asyncio.wait(calling, timeout=self._settle_s)
            self.unanswered = len(late)
            for each in late:
                each.cancel()
            for result in await asyncio.gather(*calling, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result

    async def until_answered(self, more: int, within_s: float = 60) -> None:
        """Wait until so many more calls have been answered."""
        count = self._log.answered() + more
        async with asyncio.timeout(within_s):
            while self._log.answered() < count:
                await asyncio.sleep(0.02)

    async def _talk(self, caller: int) -> None:
        number = 0
        while not self._is_over:
            number += 1
            await self._insist(self._next(f"{caller}-{number}"))

    def _next(self, name: str) -> Request:
        at = random.randrange(len(self._ids))
        user = f"owner-{at % OWNERS}"
        kind = random.choices(list(self._kinds), list(self._kinds.values()))[0]
        if kind == Kind.READ:
            return Request(kind, self._ids[at], "", user=user)
        if self._answered and random.random() < 0.05:
            return random.choice(self._answered[-50:])  # a replay
        on_busy = pb.ON_BUSY_WAIT if random.random() < 0.9 else pb.ON_BUSY_REJECT
        expected = None
        if kind != Kind.START and random.random() < 0.1:
            expected = self._last.get(self._ids[at])
        return Request(
            kind,
            self._ids[at],
            f"said {name} {an_id()}",
            on_busy=on_busy,
            expected_sequence=expected,
            user=user,
        )

    async def _insist(self, request: Request) -> None:
        """Repeat a call until it is decided."""
        while True:
            told = await call(self._any_stub(), request, self._log, timeout=self._call_s)
            if told.outcome == Outcome.OK:
                self._note(request, told)
                return
            is_decided = told.outcome == Outcome.REFUSED and told.reason != "TURN_IN_PROGRESS"
            if is_decided or told.reason in FINAL or request.kind == Kind.READ:
                return
            if told.reason == "TURN_IN_PROGRESS" and request.on_busy == pb.ON_BUSY_REJECT:
                return
            if not self._keeps_request_ids:
                request = replace(request, request_id=an_id())
            await asyncio.sleep(PAUSE_S)

    def _note(self, request: Request, told: Operation) -> None:
        if request.kind in (Kind.CHAT, Kind.STREAM):
            self._answered.append(request)
            last = self._last.get(request.conversation_id, 0)
            self._last[request.conversation_id] = max(last, told.response_sequence)
