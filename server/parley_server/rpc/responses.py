"""Answers of the core to protos."""

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_pb2, error_reason_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import (
    NO_TURN,
    Added,
    Completed,
    Context,
    Conversation,
    ConversationPage,
    DayUsage,
    Deleted,
    Erasure,
    ExportDone,
    ExportPart,
    FailureReason,
    FedTurn,
    FeedScope,
    FeedUpdate,
    FinishReason,
    ForkedFrom,
    Gone,
    HistoryPage,
    Message,
    Owner,
    PendingCall,
    PendingKind,
    Piece,
    Progress,
    Role,
    Started,
    StreamEvent,
    Text,
    ToolCall,
    Turn,
    TurnResult,
    TurnState,
    Usage,
    WatchUpdate,
)
from parley_server.rpc import page_tokens
from parley_server.rpc.conversation_requests import ListQuestion
from parley_server.rpc.requests import HistoryQuestion

ROLES = {role: conversation_pb2.Role.Value(f"ROLE_{role.value}") for role in Role}
FINISH_REASONS: dict[FinishReason | None, conversation_pb2.FinishReason.ValueType] = {
    None: conversation_pb2.FINISH_REASON_UNSPECIFIED,
    **{
        reason: conversation_pb2.FinishReason.Value(f"FINISH_REASON_{reason.value}")
        for reason in FinishReason
    },
}
ERROR_REASONS: dict[FailureReason | None, error_reason_pb2.ErrorReason.ValueType] = {
    None: error_reason_pb2.ERROR_REASON_UNSPECIFIED,
    **{
        reason: error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{reason.value}")
        for reason in FailureReason
    },
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATES = {
    state: conversation_pb2.TurnState.Value(f"TURN_STATE_{state.value}") for state in TurnState
}


_KINDS = {
    kind: conversation_pb2.PendingCallKind.Value(f"PENDING_CALL_KIND_{kind.value}")
    for kind in PendingKind
}


def chat(answered: TurnResult) -> pb.ChatResponse:
    answer = answered.answer
    return pb.ChatResponse(
        conversation_id=str(answered.conversation_id),
        turn_id=str(answered.turn_id),
        response=answer.text,
        tool_calls=tool_calls(answer.tool_calls),
        user_sequence=answered.user_sequence,
        response_sequence=answered.response_sequence,
        usage=usage(answer.usage),
        model=answer.model,
        finish_reason=FINISH_REASONS[answer.finish_reason],
        replayed=answered.is_replayed,
        context=answered.context and context(answered.context),
        pending_calls=_pending(answered.pending),
    )


def context(of: Context) -> conversation_pb2.Context:
    return conversation_pb2.Context(**of._asdict())


def _pending(calls: tuple[PendingCall, ...]) -> list[conversation_pb2.PendingCall]:
    return [
        conversation_pb2.PendingCall(**{**call._asdict(), "kind": _KINDS[call.kind]})
        for call in calls
    ]


def stream(event: StreamEvent) -> pb.StreamChatResponse:
    match event:
        case Started():
            started = pb.TurnStarted(
                conversation_id=str(event.conversation_id),
                turn_id=str(event.turn_id),
                user_sequence=event.user_sequence,
            )
            return pb.StreamChatResponse(attempt=event.attempt, started=started)
        case Piece():
            return _piece(event)
        case Completed():
            return pb.StreamChatResponse(attempt=event.attempt, completed=chat(event.answered))


def _piece(piece: Piece) -> pb.StreamChatResponse:
    response = pb.StreamChatResponse(attempt=piece.attempt, index=piece.index)
    if isinstance(piece.event, Text):
        response.chunk.text = piece.event.text
    else:
        response.tool_call.CopyFrom(conversation_pb2.ToolCall(**piece.event._asdict()))
    return response


def watch(update: WatchUpdate) -> pb.WatchConversationResponse:
    match update:
        case Message():
            return pb.WatchConversationResponse(message=message(update))
        case Turn():
            return pb.WatchConversationResponse(turn=turn(update))
        case Piece():
            return pb.WatchConversationResponse(event=_piece(update))
        case Gone():
            return pb.WatchConversationResponse(deleted=pb.WatchDeleted())
        case Progress():
            progress = pb.WatchProgress(last_sequence=update.last_sequence)
            return pb.WatchConversationResponse(progress=progress)


def fed(update: FeedUpdate, scope: FeedScope) -> pb.WatchTurnsResponse:
    cursor = page_tokens.encode_feed(scope, update.cursor)
    if isinstance(update, FedTurn):
        return pb.WatchTurnsResponse(turn=turn(update.turn), user=update.user, cursor=cursor)
    return pb.WatchTurnsResponse(progress=pb.WatchTurnsProgress(), cursor=cursor)


def history(
    page: HistoryPage,
    messages: list[conversation_pb2.Message],
    question: HistoryQuestion,
    owner: Owner,
) -> pb.GetHistoryResponse:
    token = ""
    if page.has_more:
        reached = page.messages[-1].sequence
        token = page_tokens.encode_sequence(owner, question.arguments, reached)
    return pb.GetHistoryResponse(
        messages=messages,
        next_page_token=token,
        last_sequence=page.last_sequence,
    )


def conversations(
    page: ConversationPage,
    found: list[conversation_pb2.Conversation],
    question: ListQuestion,
    owner: Owner,
) -> pb.ListConversationsResponse:
    token = ""
    if page.next is not None:
        token = page_tokens.encode_conversation(owner, question.arguments, page.next)
    return pb.ListConversationsResponse(
        conversations=found,
        next_page_token=token,
    )


def turn(stored: Turn) -> conversation_pb2.Turn:
    answer, wait = stored.answer, stored.wait
    return conversation_pb2.Turn(
        turn_id=str(stored.id),
        conversation_id=str(stored.conversation_id),
        request_id=stored.request_id or "",
        state=_STATES[stored.state],
        attempt=stored.attempt,
        agent=stored.agent,
        model=answer.model if answer else "",
        user_sequence=stored.user_sequence,
        response_sequence=stored.response_sequence or 0,
        finish_reason=FINISH_REASONS[answer.finish_reason if answer else None],
        error_reason=ERROR_REASONS[stored.error_reason],
        error_text=stored.error_text,
        create_time=time(stored.create_time),
        end_time=None if stored.end_time is None else time(stored.end_time),
        usage=usage(answer.usage) if answer else None,
        pending_calls=_pending(wait.pending) if wait else (),
        wait_end_time=time(wait.end_time) if wait else None,
    )


def message(message: Message) -> conversation_pb2.Message:
    return conversation_pb2.Message(
        sequence=message.sequence,
        role=ROLES[message.role],
        content=message.content,
        tool_calls=tool_calls(message.tool_calls),
        turn_id="" if message.turn_id == NO_TURN else str(message.turn_id),
        create_time=time(message.create_time),
        usage=usage(message.usage),
        model=message.model,
        finish_reason=FINISH_REASONS[message.finish_reason],
    )


def conversation(conversation: Conversation) -> conversation_pb2.Conversation:
    open_turn_id, source = conversation.open_turn_id, conversation.forked_from
    return conversation_pb2.Conversation(
        conversation_id=str(conversation.id),
        title=conversation.title,
        create_time=time(conversation.create_time),
        update_time=time(conversation.update_time),
        last_sequence=conversation.last_sequence,
        preview=conversation.preview,
        open_turn_id="" if open_turn_id is None else str(open_turn_id),
        labels=conversation.labels,
        instructions=conversation.instructions,
        revision=conversation.revision,
        forked_from=source and _forked_from(source),
        agent=conversation.agent,
    )


def _forked_from(source: ForkedFrom) -> conversation_pb2.ForkedFrom:
    return conversation_pb2.ForkedFrom(
        conversation_id=str(source.conversation_id), last_sequence=source.last_sequence
    )


def forked(conversation_: Conversation, *, is_replayed: bool) -> pb.ForkConversationResponse:
    return pb.ForkConversationResponse(
        conversation=conversation(conversation_), replayed=is_replayed
    )


def appended(added: Added) -> pb.AppendMessagesResponse:
    return pb.AppendMessagesResponse(
        conversation_id=str(added.conversation_id),
        first_sequence=added.first_sequence,
        last_sequence=added.last_sequence,
        replayed=added.is_replayed,
    )


def export(part: ExportPart, owner: Owner) -> pb.ExportConversationsResponse:
    response = pb.ExportConversationsResponse()
    if part.cursor is not None:
        response.cursor = page_tokens.encode_export(owner, part.cursor)
    match part.item:
        case Conversation():
            response.conversation.CopyFrom(conversation(part.item))
        case Message():
            response.message.CopyFrom(message(part.item))
        case ExportDone():
            response.done.SetInParent()
    if part.cursor is not None and not isinstance(part.item, ExportDone):
        response.conversation_id = str(part.cursor.conversation_id)
    return response


def created(conversation_: Conversation, *, is_replayed: bool) -> pb.CreateConversationResponse:
    return pb.CreateConversationResponse(
        conversation=conversation(conversation_), replayed=is_replayed
    )


def deleted(found: Deleted | None, *, has_trash: bool) -> pb.DeleteConversationResponse:
    if found is None or not has_trash:
        return pb.DeleteConversationResponse()
    return pb.DeleteConversationResponse(purge_time=time(found.purge_time))


def erasure(found: Erasure) -> pb.EraseOwnerResponse:
    is_done = found.end_time is not None
    return pb.EraseOwnerResponse(
        state=pb.ERASURE_STATE_DONE if is_done else pb.ERASURE_STATE_RUNNING,
        start_time=time(found.start_time),
        end_time=None if found.end_time is None else time(found.end_time),
        conversations=found.conversations,
        messages=found.messages,
        turns=found.turns,
    )


def tool_calls(calls: Sequence[ToolCall]) -> list[conversation_pb2.ToolCall]:
    return [conversation_pb2.ToolCall(**call._asdict()) for call in calls]


def day_usage(of: DayUsage) -> pb.UsageRow:
    return pb.UsageRow(
        date=of.day.isoformat(),
        agent=of.agent,
        label_value=of.label_value,
        usage=usage(of.usage),
        turns=of.turns,
        attempts=of.attempts,
        failed_attempts=of.failed_attempts,
    )


def usage(of: Usage | None) -> conversation_pb2.Usage | None:
    return None if of is None else conversation_pb2.Usage(**of._asdict())


def time(moment: datetime) -> Timestamp:
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)
