"""ResumeTurnRequests to questions for the core."""

from collections.abc import Sequence

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.attempts.transcript import MAX_ARGUMENTS_BYTES, MAX_RESULT_BYTES
from parley_server.core.model import (
    Given,
    GivenCall,
    GivenKind,
    OnDisconnect,
    Position,
    ResumeRequest,
)
from parley_server.rpc.requests import ON_DISCONNECT, position, turn_named
from parley_server.rpc.violations import Violations

MAX_RESULTS = 64
MAX_REASON_BYTES = 8 * 1024


def resume(request: pb.ResumeTurnRequest) -> ResumeRequest:
    """Read a ResumeTurnRequest.

    Raises: InvalidRequest.
    """
    violations = Violations()
    ask = _ask(request, violations)
    violations.raise_any()
    return ask


def stream(request: pb.StreamResumeTurnRequest) -> tuple[ResumeRequest, Position]:
    """Read a StreamResumeTurnRequest: what is given, and the last event that the caller has seen.

    Raises: InvalidRequest.
    """
    violations = Violations("resume.")
    ask = _ask(request.resume, violations)
    violations.prefix = ""
    after = position(request, violations)
    violations.raise_any()
    return ask, after


def _ask(request: pb.ResumeTurnRequest, violations: Violations) -> ResumeRequest:
    named = turn_named(request, violations)
    calls = _calls(request.results, violations)
    on_disconnect = violations.choice("on_disconnect", request.on_disconnect, ON_DISCONNECT)
    return ResumeRequest(
        named,
        tuple(calls),
        on_disconnect or OnDisconnect.CANCEL,
        field=f"{violations.prefix}results",
    )


def _calls(results: Sequence[pb.CallResult], violations: Violations) -> list[GivenCall]:
    if not results:
        violations.add("results", "REQUIRED", "must name at least one call")
    if not violations.at_most("results", len(results), MAX_RESULTS, "results"):
        return []
    known: set[str] = set()
    calls = []
    for number, result in enumerate(results):
        path = f"results[{number}]"
        key = str(violations.required_uuid(f"{path}.call_key", result.call_key))
        if key in known:
            violations.add(f"{path}.call_key", "REPEATED", "names a call that is named before")
        known.add(key)
        calls.append(_call(key, result, path, violations))
    return calls


def _call(key: str, result: pb.CallResult, path: str, violations: Violations) -> GivenCall:
    match result.WhichOneof("outcome"):
        case "result":
            violations.text(f"{path}.result", result.result, MAX_RESULT_BYTES)
            return GivenCall(Given(key, GivenKind.RESULT, result.result))
        case "error":
            if not result.error:
                violations.add(f"{path}.error", "REQUIRED", "must say how the tool failed")
            violations.text(f"{path}.error", result.error, MAX_RESULT_BYTES)
            return GivenCall(Given(key, GivenKind.ERROR, result.error))
        case "approval":
            arguments = result.approval.arguments
            violations.text(f"{path}.approval.arguments", arguments, MAX_ARGUMENTS_BYTES)
            return GivenCall(Given(key, GivenKind.APPROVAL, ""), arguments or None)
        case "denial":
            violations.text(f"{path}.denial.reason", result.denial.reason, MAX_REASON_BYTES)
            return GivenCall(Given(key, GivenKind.DENIAL, result.denial.reason))
        case _:
            text = "must be one of result, error, approval and denial"
            violations.add(f"{path}.outcome", "REQUIRED", text)
            return GivenCall(Given(key, GivenKind.RESULT, ""))
