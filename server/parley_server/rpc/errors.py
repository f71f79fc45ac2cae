"""THE table: which status each domain error becomes.

Every status carries an ErrorInfo whose reason is the name of an ErrorReason, and the details that
go with its case. `grpc-retry-pushback-ms`, which gRPC's own retries read, goes beside RetryInfo
(gRFC A6).
"""

from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from parley_server.core import errors
from parley_server.core.errors import ParleyError

DOMAIN = "parley.v1"
STATUS_DETAILS = "grpc-status-details-bin"
RETRY_PUSHBACK = "grpc-retry-pushback-ms"
DO_NOT_RETRY = "-1"
MAX_PUSHBACK_S = 5.0
"""gRPC's own retries wait out a longer one too, even past the deadline, and hide the reason."""

Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Row:
    """How one error is told: its code, its reason, and when to call again if that may help."""

    code: grpc.StatusCode
    reason: str
    retry_s: float | None = None


_INTERNAL = Row(Code.INTERNAL, "INTERNAL")
_INTERNAL_TEXT = "internal error: the server's log has the details under the call id in RequestInfo"

TABLE: dict[type[ParleyError], Row] = {
    errors.InvalidRequest: Row(Code.INVALID_ARGUMENT, "INVALID_REQUEST"),
    errors.InvalidPageToken: Row(Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN"),
    errors.AgentUnknown: Row(Code.INVALID_ARGUMENT, "AGENT_UNKNOWN"),
    errors.Unauthenticated: Row(Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
    errors.ScopeMissing: Row(Code.PERMISSION_DENIED, "SCOPE_MISSING"),
    errors.ConversationNotFound: Row(Code.NOT_FOUND, "CONVERSATION_NOT_FOUND"),
    errors.TurnNotFound: Row(Code.NOT_FOUND, "TURN_NOT_FOUND"),
    errors.RequestIdReused: Row(Code.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    errors.ResultAlreadyGiven: Row(Code.ALREADY_EXISTS, "RESULT_ALREADY_GIVEN"),
    errors.ConversationExists: Row(Code.ALREADY_EXISTS, "CONVERSATION_EXISTS"),
    errors.TurnInProgress: Row(Code.ABORTED, "TURN_IN_PROGRESS", retry_s=1.0),
    errors.SequenceMismatch: Row(Code.ABORTED, "SEQUENCE_MISMATCH"),
    errors.RevisionMismatch: Row(Code.ABORTED, "REVISION_MISMATCH"),
    errors.LeaseLost: Row(Code.ABORTED, "LEASE_LOST", retry_s=0.1),
    errors.TurnSuperseded: Row(Code.FAILED_PRECONDITION, "TURN_SUPERSEDED"),
    errors.AttemptsExhausted: Row(Code.FAILED_PRECONDITION, "ATTEMPTS_EXHAUSTED"),
    errors.SequenceNotReached: Row(Code.FAILED_PRECONDITION, "SEQUENCE_NOT_REACHED"),
    errors.NotATurnBoundary: Row(Code.FAILED_PRECONDITION, "NOT_A_TURN_BOUNDARY"),
    errors.CallNotPending: Row(Code.FAILED_PRECONDITION, "CALL_NOT_PENDING"),
    errors.WindowIncomplete: Row(Code.FAILED_PRECONDITION, "WINDOW_INCOMPLETE"),
    errors.NoRehearsal: Row(Code.FAILED_PRECONDITION, "NO_REHEARSAL"),
    errors.AgentRefused: Row(Code.FAILED_PRECONDITION, "AGENT_REFUSED"),
    errors.AgentTimeout: Row(Code.DEADLINE_EXCEEDED, "AGENT_TIMEOUT"),
    errors.AgentUnavailable: Row(Code.UNAVAILABLE, "AGENT_UNAVAILABLE", retry_s=1.0),
    errors.DeadlineTooShort: Row(Code.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT"),
    errors.CallerLost: Row(Code.DEADLINE_EXCEEDED, "CALLER_LOST"),
    errors.Overloaded: Row(Code.RESOURCE_EXHAUSTED, "OVERLOADED", retry_s=0.5),
    errors.TurnLimitReached: Row(Code.RESOURCE_EXHAUSTED, "TURN_LIMIT_REACHED"),
    errors.BudgetExhausted: Row(Code.RESOURCE_EXHAUSTED, "BUDGET_EXHAUSTED"),
    errors.QueueFull: Row(Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_s=1.0),
    errors.StoreUnavailable: Row(Code.UNAVAILABLE, "STORE_UNAVAILABLE", retry_s=0.5),
    errors.KeysUnavailable: Row(Code.UNAVAILABLE, "KEYS_UNAVAILABLE", retry_s=1.0),
    errors.WatchExpired: Row(Code.UNAVAILABLE, "WATCH_EXPIRED", retry_s=0.1),
    errors.CursorExpired: Row(Code.FAILED_PRECONDITION, "CURSOR_EXPIRED"),
    errors.WorkerDrained: Row(Code.UNAVAILABLE, "WORKER_DRAINED", retry_s=0.1),
    errors.InternalError: _INTERNAL,
}


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """What a caller is told of an error."""

    code: grpc.StatusCode
    reason: str
    text: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def row_of(error: BaseException) -> Row:
    """Return the table's row for an error; a class without one has its base's."""
    for known in type(error).__mro__:
        if known in TABLE:
            return TABLE[known]
    return _INTERNAL


def status_of(error: BaseException, call_id: str, *, is_repeatable: bool = True) -> ErrorStatus:
    """Return what the caller is told of an error: of a defect, the call id and nothing else.

    Args:
        is_repeatable: whether the same call may be sent again. If not, gRPC's own retries, which
            answer UNAVAILABLE with it and cannot know that, are told not to.
    """
    row = row_of(error)
    is_known = isinstance(error, ParleyError) and row is not _INTERNAL
    text = str(error) if is_known else _INTERNAL_TEXT
    metadata = error.metadata() if isinstance(error, ParleyError) else {}
    parts: list[Message] = [
        details.ErrorInfo(reason=row.reason, domain=DOMAIN, metadata=metadata),
    ]
    retry_s = row.retry_s
    timed = errors.AgentUnavailable | errors.TurnLimitReached | errors.BudgetExhausted
    if isinstance(error, timed) and error.retry_after_s is not None:
        retry_s = error.retry_after_s
    if retry_s is not None:
        parts.append(details.RetryInfo(retry_delay=_duration(retry_s)))
    parts.extend(_details(error))
    if row is _INTERNAL:
        parts.append(details.RequestInfo(request_id=call_id))

    status = Status(code=row.code.value[0], message=text, details=[_packed(p) for p in parts])
    trailing: list[tuple[str, str | bytes]] = [(STATUS_DETAILS, status.SerializeToString())]
    if retry_s is not None:
        is_safe = is_repeatable or row.code is not Code.UNAVAILABLE
        is_retried = is_safe and retry_s <= MAX_PUSHBACK_S
        trailing.append((RETRY_PUSHBACK, str(int(retry_s * 1000)) if is_retried else DO_NOT_RETRY))
    return ErrorStatus(row.code, row.reason, text, tuple(trailing))


def _details(error: BaseException) -> list[Message]:
    """Return the further details of the cases that have some."""
    match error:
        case errors.InvalidRequest():
            violations = [
                details.BadRequest.FieldViolation(
                    field=v.field, description=v.description, reason=v.reason
                )
                for v in error.violations
            ]
            return [details.BadRequest(field_violations=violations)]
        case errors.ConversationNotFound() | errors.ConversationExists():
            return [_resource("parley.v1.Conversation", str(error.conversation_id))]
        case errors.TurnNotFound():
            return [_resource("parley.v1.Turn", next(iter(error.metadata().values())))]
        case _:
            return []


def _resource(kind: str, name: str) -> Message:
    resource: Message = details.ResourceInfo(resource_type=kind, resource_name=name)
    return resource


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(int(seconds * 1000))
    return duration
