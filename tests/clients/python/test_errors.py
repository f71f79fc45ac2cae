"""From statuses to typed errors."""

import pickle

import grpc
import pytest
from google.rpc import error_details_pb2 as details

import parley_client
from parley.v1 import error_reason_pb2
from parley_client import (
    AsyncParleyClient,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    ParleyError,
    SequenceMismatch,
    StoreUnavailable,
    Unauthenticated,
    Unavailable,
    Violation,
)
from parley_client.errors import BY_REASON
from parley_server.rpc import errors as server_errors
from support.scripted_server import Code, Refusal, scripted

REASONS = {
    name.removeprefix("ERROR_REASON_")
    for name in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118 - no dict
} - {"UNSPECIFIED"}


async def raised(refusal: Refusal) -> ParleyError:
    """Return what the client raises when it is refused like this, over the wire."""
    async with scripted(refusal) as server, AsyncParleyClient(server.address) as client:
        with pytest.raises(ParleyError) as caught:
            await client.chat("hello", request_id="order-7", timeout_s=5)
    return caught.value


def test_every_reason_of_the_contract_has_a_class_of_its_own() -> None:
    assert REASONS == set(BY_REASON)
    assert len(REASONS) == len(set(BY_REASON.values()))


def test_every_class_is_exported() -> None:
    exported = {getattr(parley_client, name) for name in parley_client.__all__}
    assert {*BY_REASON.values(), ParleyError, Unavailable, DeadlineExceeded} < exported


def test_client_and_server_call_an_error_by_the_same_name() -> None:
    ours = {reason: kind.__name__ for reason, kind in BY_REASON.items()}
    for kind, row in server_errors.TABLE.items():
        assert kind.__name__ == ours[row.reason]


@pytest.mark.parametrize("reason", sorted(REASONS))
async def test_a_reason_becomes_its_class(reason: str) -> None:
    refusal = Refusal(Code.FAILED_PRECONDITION, reason, "words", {"some": "thing"})
    error = await raised(refusal)

    assert BY_REASON[reason] is type(error)
    assert (Code.FAILED_PRECONDITION, reason) == (error.code, error.reason)
    assert ("words", {"some": "thing"}) == (error.message, error.metadata)
    assert "order-7" == error.request_id


async def test_details_are_told() -> None:
    wrong = details.BadRequest.FieldViolation(field="message", reason="BLANK", description="why")
    refused = await raised(
        Refusal(
            Code.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            more=[details.BadRequest(field_violations=[wrong])],
        )
    )
    assert isinstance(refused, InvalidRequest)
    assert (Violation("message", "BLANK", "why"),) == refused.violations

    broken = await raised(
        Refusal(Code.INTERNAL, "INTERNAL", "sorry", more=[details.RequestInfo(request_id="c0ffee")])
    )
    assert isinstance(broken, InternalError)
    assert "sorry [request_id=order-7, call_id=c0ffee]" == str(broken)

    assert (
        0.25
        == (await raised(Refusal(Code.ABORTED, "TURN_IN_PROGRESS", retry_s=0.25))).retry_after_s
    )
    assert (await raised(Refusal(Code.ABORTED, "TURN_IN_PROGRESS"))).retry_after_s is None


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Refusal(Code.UNAUTHENTICATED), Unauthenticated),
        (Refusal(Code.DEADLINE_EXCEEDED), DeadlineExceeded),
        (Refusal(Code.UNIMPLEMENTED), ParleyError),
        (Refusal(Code.UNAVAILABLE, "FROM_THE_FUTURE", retry_s=0.01), Unavailable),
        (Refusal(Code.UNAUTHENTICATED, "STORE_UNAVAILABLE", domain="example.com"), Unauthenticated),
    ],
    ids=["no reason", "deadline", "no class", "unknown reason", "another domain"],
)
async def test_a_status_that_is_not_parleys_goes_by_its_code(
    refusal: Refusal, kind: type[ParleyError]
) -> None:
    assert kind is type(await raised(refusal))


async def test_a_reason_of_the_future_is_still_told() -> None:
    error = await raised(Refusal(Code.ABORTED, "FROM_THE_FUTURE", metadata={"some": "thing"}))
    assert ("FROM_THE_FUTURE", {"some": "thing"}) == (error.reason, error.metadata)


@pytest.mark.parametrize(
    "mangled", [b"\xff\xff\xff", b"\x08\x05"], ids=["no status", "another code"]
)
async def test_mangled_details_are_left_out(mangled: bytes) -> None:
    class Mangled(Refusal):
        @property
        def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
            return (("grpc-status-details-bin", mangled),)

    error = await raised(Mangled(Code.UNAUTHENTICATED, text="words"))
    assert (Unauthenticated, "words") == (type(error), error.message)


def test_a_number_that_is_mangled_is_no_number() -> None:
    """Fails when a program that asks for a number gets an exception in its place."""
    metadata = {"last_sequence": "many", "revision": "", "attempts": "1e3", "oldest_time": "never"}
    told = {reason: kind("x", metadata=metadata) for reason, kind in BY_REASON.items()}
    assert [0, 0, 0, None] == [
        told["SEQUENCE_MISMATCH"].last_sequence,  # type: ignore[attr-defined]
        told["REVISION_MISMATCH"].revision,  # type: ignore[attr-defined]
        told["ATTEMPTS_EXHAUSTED"].attempts,  # type: ignore[attr-defined]
        told["CURSOR_EXPIRED"].oldest_time,  # type: ignore[attr-defined]
    ]


def test_errors_survive_pickling() -> None:
    error = SequenceMismatch(
        "words", code=grpc.StatusCode.ABORTED, metadata={"last_sequence": "4"}, request_id="order-7"
    )
    copy = pickle.loads(pickle.dumps(error))
    assert (SequenceMismatch, 4) == (type(copy), copy.last_sequence)
    assert vars(error) == vars(copy)


def test_what_is_retryable_is_what_time_alone_may_mend() -> None:
    assert {
        "AGENT_TIMEOUT",
        "AGENT_UNAVAILABLE",
        "BUDGET_EXHAUSTED",
        "CALLER_LOST",
        "DEADLINE_TOO_SHORT",
        "KEYS_UNAVAILABLE",
        "LEASE_LOST",
        "OVERLOADED",
        "QUEUE_FULL",
        "STORE_UNAVAILABLE",
        "TURN_ABANDONED",
        "TURN_IN_PROGRESS",
        "TURN_LIMIT_REACHED",
        "WATCH_EXPIRED",
        "WORKER_DRAINED",
    } == {reason for reason, kind in BY_REASON.items() if kind.is_retryable}


def test_families_are_caught_by_their_base() -> None:
    assert issubclass(StoreUnavailable, Unavailable)
    for kind in BY_REASON.values():
        assert issubclass(kind, ParleyError)
