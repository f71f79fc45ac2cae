"""The approver of examples/, and what a server may answer to its decisions."""

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import ParleyClient, Unauthenticated
from support.scripted_server import Refusal, scripted

PATH = Path(__file__).parents[2] / "examples" / "approver.py"
RESULT = pb.CallResult(call_key="k", approval=pb.Approval())
WAITING = parts.Turn(turn_id="t", pending_calls=[parts.PendingCall(call_key="k")])
REFUSED = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "AGENT_REFUSED")
EXPIRED = Refusal(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


@pytest.fixture(scope="module")
def approver() -> Any:
    """The module, which is a program."""
    spec = importlib.util.spec_from_file_location("approver", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def given(approver: Any, address: str) -> str:
    def give() -> str:
        with ParleyClient(address) as parley:
            word: str = approver.give(parley, WAITING, RESULT)
            return word

    return await asyncio.to_thread(give)


async def test_a_turn_that_goes_on_and_fails_is_its_callers_to_run_again(approver: Any) -> None:
    failed = pb.GetTurnResponse(turn=parts.Turn(turn_id="t", state=parts.TURN_STATE_FAILED))
    async with scripted(REFUSED, failed) as server:
        assert "agent_refused" == await given(approver, server.address)


async def test_a_decision_that_is_not_stored_is_not_passed_over(approver: Any) -> None:
    """Fails when a token that expires while the feed is open loses turns: the cursor moves on."""
    async with scripted(EXPIRED) as server:
        with pytest.raises(Unauthenticated):
            await given(approver, server.address)
    async with scripted(EXPIRED, pb.GetTurnResponse(turn=WAITING)) as server:
        with pytest.raises(Unauthenticated):
            await given(approver, server.address)
