"""Turns a failed RPC into a typed error: reads the google.rpc details of its status."""

from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from parley_client.errors import BY_CODE, BY_REASON, ParleyError, Violation

DOMAIN = "parley.v1"
PUSHBACK = "grpc-retry-pushback-ms"

Detail = TypeVar("Detail")


def error_from(failure: grpc.RpcError, request_id: str = "") -> ParleyError:
    """Return the typed error for a failed RPC.

    Args:
        failure: what a call of either kind of channel raised.
        request_id: the turn's, which the error shows.
    """
    call = cast(grpc.Call, failure)  # it is one, in both kinds of channel
    status = _status(call)
    info = _detail(status, details.ErrorInfo) or details.ErrorInfo()
    if info.domain != DOMAIN:
        info = details.ErrorInfo()
    retry = _detail(status, details.RetryInfo)
    wrong = _detail(status, details.BadRequest) or details.BadRequest()
    named = _detail(status, details.RequestInfo) or details.RequestInfo()

    code = call.code()
    kind = BY_REASON.get(info.reason) or BY_CODE.get(code, ParleyError)
    return kind(
        call.details() or code.name,
        code=code,
        reason=info.reason,
        metadata=info.metadata,
        retry_after_s=None if retry is None else retry.retry_delay.ToMilliseconds() / 1000,
        is_pushed_back=_is_pushed_back(call),
        violations=[Violation(v.field, v.reason, v.description) for v in wrong.field_violations],
        call_id=named.request_id,
        request_id=request_id,
    )


def _status(call: grpc.Call) -> Status:
    """Return the status with its details; without them if a proxy has damaged them."""
    try:
        return rpc_status.from_call(call) or Status()
    except (ValueError, DecodeError):
        return Status()


def _is_pushed_back(call: grpc.Call) -> bool:
    """Return whether the server asks not to retry.

    Source: gRFC A6: a pushback that is negative or not a number.
    """
    wanted = dict(call.trailing_metadata() or ()).get(PUSHBACK)
    return wanted is not None and not str(wanted).isdecimal()


def _detail(status: Status, kind: type[Detail]) -> Detail | None:
    """Return the first detail of a kind."""
    for packed in status.details:
        found: Any = kind()
        try:
            if packed.Unpack(found):
                return cast(Detail, found)
        except DecodeError:
            continue
    return None
