"""The service: one short method per RPC. Read the request, ask the core, tell the answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import grpc

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc as pb_grpc
from parley_server.core.errors import (
    AgentUnknown,
    CallerLost,
    ExportExpired,
    FeedExpired,
    TurnNotFound,
    WatchExpired,
)
from parley_server.core.model import (
    ExportPage,
    FeedScope,
    Owner,
    RehearsalStarted,
    Started,
    TurnRef,
)
from parley_server.core.turnstile import Turnstile
from parley_server.rpc import (
    agent_responses,
    append_requests,
    conversation_requests,
    explain_requests,
    explain_responses,
    feed_requests,
    owner_requests,
    requests,
    responses,
    resume_requests,
)
from parley_server.rpc.layers.admission import Admission
from parley_server.rpc.layers.call_record import ERASE, OBSERVE, READ, WRITE, current_call
from parley_server.rpc.use_cases import UseCases

TAKE_S = 30.0
"""How long a caller may take nothing of a stream. Its side of gRPC buffers 64 KiB and more."""

COUNTED_BYTES = 16 * 1024
"""How long a message of a turn's stream may be that is not counted until it is taken."""

SLICE = 32
"""How many messages of a page are made before others have their turn."""
APPENDED_SLICE = 8
"""The same of messages that a caller adds: each may have 64 tool calls, and all are checked."""

T = TypeVar("T")
Made = TypeVar("Made")

Context = grpc.aio.ServicerContext[Any, Any]


class ConversationServicer(pb_grpc.ConversationServiceServicer):
    def __init__(self, core: UseCases, admission: Admission, *, max_message_bytes: int) -> None:
        """Answer calls."""
        self._core = core
        self._max_message_bytes = max_message_bytes
        self._unsent = admission.unsent_of_watches
        self._page_of = admission.page_of
        self._exports = admission.exports
        self._sending = admission.sending
        self._building = Turnstile(1)

    async def Chat(self, request: pb.ChatRequest, context: Context) -> pb.ChatResponse:  # noqa: N802
        call = current_call.get()
        owner = call.owner(WRITE)
        read = partial(requests.chat, request, max_message_bytes=self._max_message_bytes)
        ask = await self._read_for_agent(read, owner, request)
        call.request_id = request.request_id
        call.is_repeatable = bool(request.request_id)
        call.shown_id = _text(ask.conversation_id)
        answered = await self._core.turns.chat(owner, ask, context.time_remaining())
        call.turn_id = str(answered.turn_id)
        return responses.chat(answered)

    async def StartTurn(  # noqa: N802
        self, request: pb.StartTurnRequest, context: Context
    ) -> pb.StartTurnResponse:
        call = current_call.get()
        owner = call.owner(WRITE)
        read = partial(requests.start, request, max_message_bytes=self._max_message_bytes)
        ask = await self._read_for_agent(read, owner, request.chat)
        call.request_id = request.chat.request_id
        call.is_repeatable = bool(request.chat.request_id)
        turn, is_replayed = await self._core.accepting.start(owner, ask, context.time_remaining())
        call.turn_id, call.shown_id = str(turn.id), str(turn.conversation_id)
        return pb.StartTurnResponse(turn=responses.turn(turn), replayed=is_replayed)

    async def ResumeTurn(  # noqa: N802
        self, request: pb.ResumeTurnRequest, context: Context
    ) -> pb.ResumeTurnResponse:
        call = current_call.get()
        owner = call.owner(WRITE)
        ask = resume_requests.resume(request)
        call.request_id = request.request_id
        call.turn_id = _text(ask.turn.turn_id)
        call.is_repeatable = True
        answered = await self._core.resuming.resume(owner, ask, context.time_remaining())
        call.turn_id, call.shown_id = str(answered.turn_id), str(answered.conversation_id)
        return pb.ResumeTurnResponse(chat=responses.chat(answered))

    async def GetHistory(  # noqa: N802
        self, request: pb.GetHistoryRequest, _context: Context
    ) -> pb.GetHistoryResponse:
        call = current_call.get()
        owner = call.owner(READ)
        question = requests.history(request, owner)
        call.shown_id = str(question.query.conversation_id)
        async with self._page_of(owner.id):
            page = await self._core.reads.history(owner, question.query)
            messages = await self._in_slices(owner, page.messages, responses.message)
            return responses.history(page, messages, question, owner)

    async def ListConversations(  # noqa: N802
        self, request: pb.ListConversationsRequest, _context: Context
    ) -> pb.ListConversationsResponse:
        owner = current_call.get().owner(READ)
        question = conversation_requests.conversations(request, owner)
        async with self._page_of(owner.id):
            page = await self._core.reads.conversations(owner, question.query)
            found = await self._in_slices(owner, page.conversations, responses.conversation)
            return responses.conversations(page, found, question, owner)

    async def CreateConversation(  # noqa: N802
        self, request: pb.CreateConversationRequest, _context: Context
    ) -> pb.CreateConversationResponse:
        call = current_call.get()
        owner = call.owner(WRITE)
        new = conversation_requests.new_conversation(request, self._core.turns.roster)
        call.request_id = request.request_id
        call.is_repeatable = bool(request.request_id)
        created, is_replayed = await self._core.conversations.create(owner, new)
        call.conversation_id = str(created.id)
        return responses.created(created, is_replayed=is_replayed)

    async def GetConversation(  # noqa: N802
        self, request: pb.GetConversationRequest, _context: Context
    ) -> pb.GetConversationResponse:
        call = current_call.get()
        owner = call.owner(READ)
        conversation_id = conversation_requests.conversation(request)
        call.shown_id = str(conversation_id)
        found = await self._core.reads.conversation(owner, conversation_id)
        return pb.GetConversationResponse(conversation=responses.conversation(found))

    async def UpdateConversation(  # noqa: N802
        self, request: pb.UpdateConversationRequest, _context: Context
    ) -> pb.UpdateConversationResponse:
        call = current_call.get()
        owner = call.owner(WRITE)
        change = conversation_requests.change(request, self._core.turns.roster)
        call.conversation_id = str(change.conversation_id)
        changed = await self._core.conversations.update(owner, change)
        return pb.UpdateConversationResponse(conversation=responses.conversation(changed))

    async def DeleteConversation(  # noqa: N802
        self, request: pb.DeleteConversationRequest, _context: Context
    ) -> pb.DeleteConversationResponse:
        call = current_call.get()
        owner = call.owner(WRITE)
        conversation_id = conversation_requests.conversation(request)
        call.conversation_id = str(conversation_id)
        deleted = await self._core.conversations.delete(
            owner, conversation_id, allow_missing=request.allow_missing
        )
        return responses.deleted(deleted, has_trash=self._core.conversations.has_trash)

    async def UndeleteConversation(  # noqa: N802
        self, request: pb.UndeleteConversationRequest, _context: Context
    ) -> pb.UndeleteConversationResponse:
        call = current_call.get()
        owner = call.owner(WRITE)
        conversation_id = conversation_requests.conversation(request)
        call.conversation_id = str(conversation_id)
        found = await self._core.conversations.undelete(owner, conversation_id)
        return pb.UndeleteConversationResponse(conversation=responses.conversation(found))

    async def AppendMessages(  # noqa: N802
        self, request: pb.AppendMessagesRequest, context: Context
    ) -> pb.AppendMessagesResponse:
        call = current_call.get()
        owner = call.owner(WRITE)
        async with self._page_of(owner.id):
            new = await append_requests.append(
                request,
                self._max_message_bytes,
                partial(self._in_slices, owner, slice_length=APPENDED_SLICE),
            )
        call.request_id = request.request_id
        call.is_repeatable = bool(request.request_id)
        call.conversation_id = str(new.conversation_id)
        added = await self._core.appending.append(owner, new, context.time_remaining())
        return responses.appended(added)

    async def ForkConversation(  # noqa: N802
        self, request: pb.ForkConversationRequest, _context: Context
    ) -> pb.ForkConversationResponse:
        call = current_call.get()
        owner = call.owner(WRITE)
        new = conversation_requests.fork(request)
        call.request_id = request.request_id
        call.is_repeatable = bool(request.request_id)
        async with self._page_of(owner.id):  # one call may have a hundred thousand messages copied
            forked, is_replayed = await self._core.conversations.fork(owner, new)
        call.conversation_id = str(forked.id)
        return responses.forked(forked, is_replayed=is_replayed)

    async def GetUsage(  # noqa: N802
        self, request: pb.GetUsageRequest, _context: Context
    ) -> pb.GetUsageResponse:
        owner = current_call.get().owner(READ)
        query = owner_requests.usage(request)
        async with self._page_of(owner.id):
            found = await self._core.usage.usage(owner, query)
            rows = await self._in_slices(owner, found, responses.day_usage)
            return pb.GetUsageResponse(rows=rows)

    async def EraseOwner(  # noqa: N802
        self, request: pb.EraseOwnerRequest, _context: Context
    ) -> pb.EraseOwnerResponse:
        call = current_call.get()
        owner = call.owner_by_name(ERASE)
        call.request_id = owner_requests.erasure(request)
        return responses.erasure(await self._core.erasing.erase(owner, call.request_id))

    async def _read_for_agent(
        self, read: Callable[[Container[str]], T], owner: Owner, chat: pb.ChatRequest
    ) -> T:
        """Read a request that may name an agent: one that there is, or the one that its turn has.

        A turn is followed, replayed and tried again by its own call, whatever agents there are now.

        Args:
            read: reads it, given the names that may be asked for.
            chat: what it says of the turn.
        Raises: InvalidRequest; alone: AgentUnknown.
        """
        try:
            return read(self._core.turns.roster)
        except AgentUnknown:
            named = TurnRef(None, None, chat.request_id)
            try:
                turn = await self._core.reads.turn(owner, named)
            except TurnNotFound:
                turn = None
            if turn is None or turn.agent != chat.agent:
                raise
        return read({chat.agent})

    async def _in_slices(
        self,
        owner: Owner,
        values: Sequence[T],
        made: Callable[[T], Made],
        slice_length: int = SLICE,
    ) -> list[Made]:
        """Make the messages of a page, so that the loop never waits for more than a few of them."""
        found: list[Made] = []
        for start in range(0, len(values), slice_length):
            if start:
                await asyncio.sleep(0)
            async with self._building.of(owner.id):
                found += map(made, values[start : start + slice_length])
        return found

    async def GetTurn(self, request: pb.GetTurnRequest, _context: Context) -> pb.GetTurnResponse:  # noqa: N802
        call = current_call.get()
        owner = call.owner(READ)
        turn = await self._core.reads.turn(owner, requests.turn(request))
        call.shown_id = str(turn.conversation_id)
        return pb.GetTurnResponse(turn=responses.turn(turn))

    async def CancelTurn(  # noqa: N802
        self, request: pb.CancelTurnRequest, _context: Context
    ) -> pb.CancelTurnResponse:
        call = current_call.get()
        owner = call.owner(WRITE)
        turn = await self._core.turns.cancel(owner, requests.turn(request))
        call.turn_id, call.shown_id = str(turn.id), str(turn.conversation_id)
        return pb.CancelTurnResponse(turn=responses.turn(turn))

    # Streams are coroutines that write: gRPC does not close a generator that is cancelled.

    async def StreamChat(  # type: ignore[override]  # noqa: N802
        self, request: pb.StreamChatRequest, context: Context
    ) -> None:
        call = current_call.get()
        owner = call.owner(WRITE)
        read = partial(requests.stream, request, max_message_bytes=self._max_message_bytes)
        ask, after = await self._read_for_agent(read, owner, request.chat)
        call.request_id = request.chat.request_id
        call.is_repeatable = bool(request.chat.request_id)
        call.shown_id = _text(ask.conversation_id)
        events = self._core.turns.stream(owner, ask, after, context.time_remaining())
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Started):
                    call.turn_id = str(event.turn_id)
                await self._in_turn(owner)
                if not await self._sent(context, owner, responses.stream(event)):
                    del event  # the error holds on to this frame while it is told
                    raise CallerLost

    async def StreamResumeTurn(  # type: ignore[override]  # noqa: N802
        self, request: pb.StreamResumeTurnRequest, context: Context
    ) -> None:
        call = current_call.get()
        owner = call.owner(WRITE)
        ask, after = resume_requests.stream(request)
        call.request_id = request.resume.request_id
        call.turn_id = _text(ask.turn.turn_id)
        call.is_repeatable = True
        events = self._core.resuming.stream(owner, ask, after, context.time_remaining())
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Started):
                    call.turn_id = str(event.turn_id)
                await self._in_turn(owner)
                message = pb.StreamResumeTurnResponse(event=responses.stream(event))
                if not await self._sent(context, owner, message):
                    del event, message  # as above
                    raise CallerLost

    async def WatchConversation(  # type: ignore[override]  # noqa: N802
        self, request: pb.WatchConversationRequest, context: Context
    ) -> None:
        call = current_call.get()
        owner = call.owner(READ)
        question = requests.watch(request)
        call.shown_id = str(question.conversation_id)
        updates = self._core.watches.watch(
            owner,
            question.conversation_id,
            question.after_sequence,
            include_events=question.include_events,
        )
        async with aclosing(updates):
            async for update in updates:
                await self._in_turn(owner)
                message = responses.watch(update)
                if not await self._unsent.send(context, owner.id, message, TAKE_S):
                    del update, message  # the error holds on to this frame while it is told
                    raise WatchExpired

    async def ExportConversations(  # type: ignore[override]  # noqa: N802
        self, request: pb.ExportConversationsRequest, context: Context
    ) -> None:
        owner = current_call.get().owner(READ)
        pages = self._core.exports.export(owner, conversation_requests.export(request, owner))
        async with aclosing(pages):
            self._exports.take(owner.id)
            context.add_done_callback(lambda _: self._exports.leave(owner.id))  # type: ignore[arg-type] # by position
            while page := await self._next_page(owner, pages):
                for part in page:
                    await self._in_turn(owner)
                    message = responses.export(part, owner)
                    if not await self._unsent.send(context, owner.id, message, TAKE_S):
                        del page, part, message  # as above
                        raise ExportExpired

    async def _next_page(self, owner: Owner, pages: AsyncIterator[ExportPage]) -> ExportPage | None:
        """Return the next page of an export, in the owner's turn; None: there is none."""
        async with self._page_of(owner.id):
            return await anext(pages, None)

    async def WatchTurns(  # type: ignore[override]  # noqa: N802
        self, request: pb.WatchTurnsRequest, context: Context
    ) -> None:
        call = current_call.get()
        is_tenant = request.all_owners
        owner = call.owner_by_name(OBSERVE) if is_tenant else call.owner(READ)
        scope = FeedScope(owner, is_tenant)
        question = feed_requests.turns(request, scope, has_feed=self._core.feeds is not None)
        if self._core.feeds is None:
            return
        updates = self._core.feeds.watch(question)
        async with aclosing(updates):
            async for update in updates:
                await self._in_turn(owner)
                message = responses.fed(update, scope)
                if not await self._unsent.send(context, owner.id, message, TAKE_S):
                    del update, message  # the error holds on to this frame while it is told
                    raise FeedExpired

    async def ListAgents(  # noqa: N802
        self, _request: pb.ListAgentsRequest, _context: Context
    ) -> pb.ListAgentsResponse:
        current_call.get().owner(READ)
        return agent_responses.agents(self._core.turns.roster)

    async def ExplainTurn(  # noqa: N802
        self, request: pb.ExplainTurnRequest, _context: Context
    ) -> pb.ExplainTurnResponse:
        call = current_call.get()
        owner = call.owner(READ)
        named = explain_requests.explain(request)
        call.request_id, call.turn_id = request.request_id, _text(named.turn_id)
        async with self._page_of(owner.id):
            found = await self._core.explaining.explain(owner, named)
            call.turn_id, call.shown_id = str(found.turn.id), str(found.turn.conversation_id)
            return explain_responses.explained(found)

    async def RehearseTurn(  # type: ignore[override]  # noqa: N802
        self, request: pb.RehearseTurnRequest, context: Context
    ) -> None:
        call = current_call.get()
        owner = call.owner(WRITE)
        ask = explain_requests.rehearse(request, self._core.turns.roster)
        call.request_id, call.turn_id = request.request_id, _text(ask.turn.turn_id)
        events = self._core.rehearsals.rehearse(owner, ask, context.time_remaining())
        async with aclosing(events):
            async for event in events:
                if isinstance(event, RehearsalStarted):
                    call.turn_id, call.shown_id = str(event.turn_id), str(event.conversation_id)
                await self._in_turn(owner)
                if not await self._sent(context, owner, explain_responses.rehearsal(event)):
                    del event  # as above
                    raise CallerLost

    async def _in_turn(self, owner: Owner) -> None:
        """Let others have their turn, however many streams of this owner have something to tell."""
        async with self._sending.of(owner.id):
            await asyncio.sleep(0)

    async def _sent(self, context: Context, owner: Owner, message: Any) -> bool:
        """Send a message of a turn's stream.

        gRPC holds messages back while the caller's window is closed, without an end. Long ones are
        counted with those of watches: a thousand streams may each end with an answer of 1 MiB.

        Returns: False: the caller's side reads nothing for long, or of this owner too much waits.
        """
        if message.ByteSize() > COUNTED_BYTES:
            return await self._unsent.send(context, owner.id, message, TAKE_S)
        try:
            async with asyncio.timeout(TAKE_S):
                await context.write(message)
        except TimeoutError:
            return False
        return True


def _text(identity: UUID | None) -> str:
    """Return an id as all calls name it, however its caller has written it; of none, nothing."""
    return "" if identity is None else str(identity)
