"""What goes wrong with a remote agent becomes an error of Parley's.

A status has a text of the agent's, which may repeat what was said: neither an error nor the log has
more than its code. The log also has the rule of the protocol that was broken, in words of ours.
"""

from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from parley_server.core.errors import AgentError, AgentRefused, AgentTimeout, AgentUnavailable

MAX_RETRY_AFTER_S = 3600.0
"""An agent that asks for more is taken to have asked for this."""

_DETAILS = "grpc-status-details-bin"

Detail = TypeVar("Detail", error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo)

_TABLE: dict[grpc.StatusCode, type[AgentError]] = {
    # The request is not what the agent takes, or it is no A2A agent: again, it would be the same.
    grpc.StatusCode.INVALID_ARGUMENT: AgentRefused,
    grpc.StatusCode.NOT_FOUND: AgentRefused,
    grpc.StatusCode.ALREADY_EXISTS: AgentRefused,
    grpc.StatusCode.FAILED_PRECONDITION: AgentRefused,
    grpc.StatusCode.OUT_OF_RANGE: AgentRefused,
    grpc.StatusCode.UNIMPLEMENTED: AgentRefused,
    # Token or certificate are not good: somebody has to look at them.
    grpc.StatusCode.UNAUTHENTICATED: AgentRefused,
    grpc.StatusCode.PERMISSION_DENIED: AgentRefused,
    grpc.StatusCode.DEADLINE_EXCEEDED: AgentTimeout,
    # These may pass. gRPC itself says RESOURCE_EXHAUSTED of an event that is too large, INTERNAL of
    # one that is no protobuf, UNAVAILABLE of a connection that is refused or breaks.
    grpc.StatusCode.RESOURCE_EXHAUSTED: AgentUnavailable,
    grpc.StatusCode.UNAVAILABLE: AgentUnavailable,
    grpc.StatusCode.ABORTED: AgentUnavailable,
    grpc.StatusCode.CANCELLED: AgentUnavailable,
    grpc.StatusCode.INTERNAL: AgentUnavailable,
    grpc.StatusCode.UNKNOWN: AgentUnavailable,
    grpc.StatusCode.DATA_LOSS: AgentUnavailable,
}

_TASK_IS_GONE = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)

UNSUPPORTED = ("UNSUPPORTED_OPERATION", "a2a-protocol.org")


class OutOfProtocol(Exception):
    """An agent said what A2A does not allow. The text is a rule, in words of ours."""


def agent_error(error: grpc.aio.AioRpcError) -> AgentError:
    """Return what a status is for Parley."""
    kind = _TABLE.get(error.code(), AgentUnavailable)
    return AgentUnavailable(_retry_after_s(error)) if kind is AgentUnavailable else kind()


def is_without_streams(error: grpc.aio.AioRpcError) -> bool:
    """Return whether an agent says that it answers SendMessage alone."""
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return True
    info = _detail(error, error_details_pb2.ErrorInfo())
    return info is not None and (info.reason, info.domain) == UNSUPPORTED


def is_task_gone(error: grpc.aio.AioRpcError) -> bool:
    """Return whether an agent may have refused a request because of the task that it names."""
    return error.code() in _TASK_IS_GONE


def _retry_after_s(error: grpc.aio.AioRpcError) -> float | None:
    info = _detail(error, error_details_pb2.RetryInfo())
    if info is None or not info.HasField("retry_delay"):
        return None
    delay = info.retry_delay
    seconds: float = delay.seconds + delay.nanos / 1e9
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _detail(error: grpc.aio.AioRpcError, wanted: Detail) -> Detail | None:
    """Return the first detail of a kind. What cannot be read is as if it were not there."""
    try:
        trailing: Any = error.trailing_metadata()  # pairs; its type says something else
        found = dict(trailing or ()).get(_DETAILS)
        if isinstance(found, bytes):
            for detail in status_pb2.Status.FromString(found).details:
                if detail.Unpack(wanted):
                    return wanted
    except DecodeError:
        pass
    return None
