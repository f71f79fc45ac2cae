"""Explanations and rehearsals to protos."""

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import (
    Answer,
    Explanation,
    OmissionReason,
    Omitted,
    PastAttempt,
    RehearsalEvent,
    RehearsalStarted,
    ShownMessage,
    Text,
    ToolCall,
)
from parley_server.rpc import responses

PREVIEW_CHARACTERS = 200
_OMISSIONS = {
    reason: pb.OmissionReason.Value(f"OMISSION_REASON_{reason.value}") for reason in OmissionReason
}


def explained(found: Explanation) -> pb.ExplainTurnResponse:
    digest, context = found.instructions_digest, found.turn.context
    return pb.ExplainTurnResponse(
        turn=responses.turn(found.turn),
        context=context and responses.context(context),
        messages=[_shown(message) for message in found.messages],
        omitted=[_omitted(omitted) for omitted in found.omitted],
        instructions_digest="" if digest is None else digest.hex(),
        instructions_unchanged=found.is_unchanged,
        tool_calls=responses.tool_calls(found.tool_calls),
        attempts=[_attempt(attempt) for attempt in found.attempts],
    )


def _shown(shown: ShownMessage) -> pb.ShownMessage:
    message = shown.message
    return pb.ShownMessage(
        sequence=message.sequence,
        role=responses.ROLES[message.role],
        preview=message.content[:PREVIEW_CHARACTERS],
        content_bytes=len(message.content.encode()),
        is_shortened=shown.is_shortened,
        tools=[call.name for call in message.tool_calls],
    )


def _omitted(omitted: Omitted) -> pb.OmittedMessages:
    return pb.OmittedMessages(
        first_sequence=omitted.first_sequence,
        last_sequence=omitted.last_sequence,
        reason=_OMISSIONS[omitted.reason],
    )


def _attempt(attempt: PastAttempt) -> pb.Attempt:
    start, end = attempt.start_time, attempt.end_time
    return pb.Attempt(
        number=attempt.number,
        start_time=None if start is None else responses.time(start),
        end_time=None if end is None else responses.time(end),
        error_reason=responses.ERROR_REASONS[attempt.error_reason],
    )


def rehearsal(event: RehearsalEvent) -> pb.RehearseTurnResponse:
    match event:
        case RehearsalStarted():
            started = pb.RehearsalStarted(
                agent=event.agent, context=responses.context(event.context)
            )
            return pb.RehearseTurnResponse(started=started)
        case Text():
            return pb.RehearseTurnResponse(chunk=pb.TextChunk(text=event.text))
        case ToolCall():
            call = conversation_pb2.ToolCall(**event._asdict())
            return pb.RehearseTurnResponse(tool_call=call)
        case Answer():
            return pb.RehearseTurnResponse(
                completed=pb.RehearsalCompleted(
                    response=event.text,
                    tool_calls=responses.tool_calls(event.tool_calls),
                    usage=responses.usage(event.usage),
                    model=event.model,
                    finish_reason=responses.FINISH_REASONS[event.finish_reason],
                )
            )
