"""Answers without a stream, and what comes with an answer beside its text."""

from collections.abc import Iterable
from dataclasses import replace

import grpc
import pytest
from a2a.types import a2a_pb2 as a2a
from google.rpc import error_details_pb2

from parley_server.agents.a2a.agent import A2AAgent
from parley_server.core.errors import AgentRefused, AgentTimeout, AgentUnavailable
from parley_server.core.model import AgentRun, FinishReason, Spent, Usage
from support.a2a_scripted import (
    Fails,
    Ids,
    Said,
    ScriptedRemote,
    a_status,
    a_task,
    an_agent,
    an_artifact,
    completed,
)
from support.agent_runs import a_run, told_by
from support.services import until_true


async def spoken(agent: A2AAgent, run: AgentRun | None = None) -> str:
    return (await told_by(agent, run)).text


NO_STREAMS = Fails(
    grpc.StatusCode.FAILED_PRECONDITION,
    (error_details_pb2.ErrorInfo(reason="UNSUPPORTED_OPERATION", domain="a2a-protocol.org"),),
)


@pytest.mark.parametrize("streaming", [None, NO_STREAMS], ids=["not implemented", "not supported"])
async def test_an_agent_without_streams_is_asked_without_one(streaming: Fails | None) -> None:
    def whole(ids: Ids) -> Iterable[Said]:
        artifacts = [an_artifact("a1", "Hello")]
        return [_in_response(a_task(ids, a2a.TASK_STATE_COMPLETED, artifacts=artifacts))]

    scripts = [] if streaming is None else [lambda _: [streaming]]
    remote = ScriptedRemote(*scripts, unary=whole)
    async with remote.running(), an_agent(remote.name) as agent:
        texts = [await spoken(agent), await spoken(agent)]

    assert ["Hello"] * 2 == texts
    methods = [heard.method for heard in remote.heard]
    assert ["SendMessage"] * 2 == methods[-2:], "it is remembered for a while"
    assert len(methods) <= 3


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (a2a.SendMessageResponse(), AgentUnavailable),
        (b"\xff\xff\xff", AgentUnavailable),
        (Fails(grpc.StatusCode.UNIMPLEMENTED), AgentRefused),
        (Fails(grpc.StatusCode.INTERNAL), AgentUnavailable),
    ],
    ids=["nothing", "no protobuf", "not implemented", "an error"],
)
async def test_what_an_agent_without_streams_sends_wrong_is_a_failure(
    said: Said, error: type[Exception]
) -> None:
    remote = ScriptedRemote(unary=lambda _: [said])
    async with remote.running(), an_agent(remote.name) as agent:
        with pytest.raises(error):
            await told_by(agent)


async def test_an_answer_without_a_stream_that_is_not_complete_is_a_failure() -> None:
    remote = ScriptedRemote(unary=lambda ids: [_in_response(a_task(ids))])
    async with remote.running(), an_agent(remote.name) as agent:
        with pytest.raises(AgentUnavailable):
            await told_by(agent)
        await until_true(lambda: remote.cancelled == ["t1"])


async def test_usage_and_model_are_the_agents_if_it_tells_them() -> None:
    usage = {"input_tokens": 12, "output_tokens": 3}
    remote = ScriptedRemote(
        lambda ids: [
            a_task(ids),
            completed(ids, "Hi", usage=usage, model="small-1", finish_reason="LENGTH"),
        ]
    )
    async with remote.running(), an_agent(remote.name) as agent:
        told = await told_by(agent)

    assert told.finish is not None
    assert (12, 3, 0, 1) == told.finish.usage
    assert ("small-1", FinishReason.LENGTH) == (told.finish.model, told.finish.reason)


async def test_usage_of_an_answer_that_fails_is_told_before() -> None:
    failed = a2a.TASK_STATE_FAILED
    remote = ScriptedRemote(
        lambda ids: [a_task(ids), a_status(ids, failed, usage={"output_tokens": 5})]
    )
    async with remote.running(), an_agent(remote.name) as agent:
        events = agent.run(a_run())
        first = await anext(events)
        with pytest.raises(AgentUnavailable):
            await anext(events)

    assert Spent(Usage(0, 5, 0, 1)) == first


async def test_an_agent_that_fails_at_the_deadline_has_met_it() -> None:
    """By its own clock. Fails where only this side's deadline counts, which is a little later."""
    remote = ScriptedRemote(lambda ids: [a_task(ids), a_status(ids, a2a.TASK_STATE_FAILED)])
    async with remote.running(), an_agent(remote.name) as agent:
        with pytest.raises(AgentTimeout):
            await told_by(agent, replace(a_run(), time_left_s=0.2))


@pytest.mark.parametrize(
    "usage",
    ["12", {"input_tokens": "many"}, {"input_tokens": True}, {"input_tokens": float("inf")}, []],
)
async def test_usage_that_is_none_is_left_out(usage: object) -> None:
    remote = ScriptedRemote(lambda ids: [a_task(ids), completed(ids, usage=usage, model=7)])
    async with remote.running(), an_agent(remote.name) as agent:
        told = await told_by(agent)

    assert told.finish is not None
    assert (None, "a2a") == (told.finish.usage, told.finish.model)


def _in_response(event: a2a.StreamResponse) -> a2a.SendMessageResponse:
    return a2a.SendMessageResponse(task=event.task)
