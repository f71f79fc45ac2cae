"""Limits of agents: one suite for each kind of agent, through a real worker.

A kind is an agent that does what a message asks for, in words:

    hang             answers nothing, for ever
    text N           says N bytes
    forever          says something without end
    calls N          asks for N tools at once, again and again, for as long as it is given tools
    arguments N      calls a tool with arguments of at least N bytes, then says "done"
    result N         calls a tool whose result has N bytes, then says "done"

    class TestLimitsOfMine(LimitsSuite):
        words = frozenset({"hang", "text", "forever"})

        @pytest.fixture
        def agent(self) -> Iterator[Agent]: ...

A kind with tools elsewhere may hang in one of them. Words that a kind cannot do are left out of
`words`. A kind that is asked in other words overrides `message`. Without the limits, each test
fails but those of what holds for any agent: arguments, results and a text without end.
"""

import gc
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import psutil
import pytest

from parley.v1 import conversation_pb2
from parley_server.core.attempts.roster import NamedAgent
from parley_server.core.attempts.transcript import (
    MARK,
    MAX_ARGUMENTS_BYTES,
    MAX_RESULT_BYTES,
    MAX_TEXT_BYTES,
)
from parley_server.core.model import AgentLimits
from parley_server.core.ports import Agent
from support.services import Service, StartService, refused

MIB = 1024 * 1024
MOST_GROWTH_BYTES = 96 * MIB
"""How much a worker may grow for one answer without end, the collector's own rhythm included."""

Limited = Callable[..., Awaitable[Service]]


def finish_of(message: conversation_pb2.Message) -> str:
    name = conversation_pb2.FinishReason.Name(message.finish_reason)
    return str(name).removeprefix("FINISH_REASON_")


class LimitsSuite:
    """What holds for agents of every kind."""

    words: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture(autouse=True)
    def _can(self, request: pytest.FixtureRequest) -> None:
        for mark in request.node.iter_markers("needs"):
            if mark.args[0] not in self.words:
                pytest.skip(f"an agent of this kind does not do: {mark.args[0]}")

    @pytest.fixture
    def limited(self, agent: Agent, start_service: StartService) -> Limited:
        """Start a worker with the agent below limits: `await limited(seconds=1)`."""

        async def start(**limits: Any) -> Service:
            service = await start_service(agent)
            roster = service.worker.agents.roster
            named = NamedAgent("echo", agent, roster.default.window, AgentLimits(**limits))
            roster.replace([named], "echo")
            return service

        return start

    def message(self, words: str) -> str:
        """Return the message that has the agent do what the words say."""
        return words

    async def answer_of(
        self, service: Service, words: str
    ) -> tuple[conversation_pb2.Message, list[conversation_pb2.ToolCall]]:
        answered = await service.chat(self.message(words))
        history = await service.history(answered.conversation_id)
        answer = history.messages[-1]
        return answer, list(answer.tool_calls)

    @pytest.mark.needs("hang")
    async def test_time_ends_an_attempt(self, limited: Limited) -> None:
        service = await limited(seconds=0.5)

        assert ("DEADLINE_EXCEEDED", "AGENT_TIMEOUT") == await refused(
            service.chat(self.message("hang"))
        )

    @pytest.mark.needs("text")
    async def test_text_is_cut(self, limited: Limited) -> None:
        service = await limited(reply_bytes=100)

        answer, _ = await self.answer_of(service, "text 5000")

        assert (100, "LENGTH") == (len(answer.content.encode()), finish_of(answer))

    @pytest.mark.needs("text")
    async def test_text_within_the_limit_is_whole(self, limited: Limited) -> None:
        service = await limited(reply_bytes=5000, output_tokens=5000, tool_calls=3, seconds=30)

        answer, _ = await self.answer_of(service, "text 4000")

        assert "STOP" == finish_of(answer)
        assert len(answer.content.encode()) <= 5000

    @pytest.mark.needs("forever")
    async def test_text_without_end_is_cut_in_bounded_memory(self, limited: Limited) -> None:
        service = await limited()
        await service.chat(self.message("forever"))  # what is kept for good is kept by now
        gc.collect()
        before = psutil.Process().memory_info().rss

        answer, _ = await self.answer_of(service, "forever")

        assert (MAX_TEXT_BYTES, "LENGTH") == (len(answer.content.encode()), finish_of(answer))
        assert psutil.Process().memory_info().rss - before < MOST_GROWTH_BYTES

    @pytest.mark.needs("forever")
    async def test_tokens_end_a_text_of_a_model_that_does_not_count_them(
        self, limited: Limited
    ) -> None:
        service = await limited(output_tokens=100)

        answer, _ = await self.answer_of(service, "forever")

        assert "LENGTH" == finish_of(answer)
        assert len(answer.content.encode()) < 8 * 1024

    @pytest.mark.needs("calls")
    @pytest.mark.parametrize("at_once", [1, 2, 5])
    async def test_calls_end_the_answer_with_the_last_one(
        self, limited: Limited, at_once: int
    ) -> None:
        service = await limited(tool_calls=3)

        answer, calls = await self.answer_of(service, f"calls {at_once}")

        assert (3, "LENGTH") == (len(calls), finish_of(answer))
        assert not any(call.is_error for call in calls)

    @pytest.mark.needs("calls")
    async def test_no_call_is_made_where_none_is_allowed(self, limited: Limited) -> None:
        service = await limited(tool_calls=0)

        _, calls = await self.answer_of(service, "calls 2")

        assert [] == calls

    @pytest.mark.needs("calls")
    async def test_tokens_end_an_answer_of_many_requests(self, limited: Limited) -> None:
        service = await limited(output_tokens=40)

        answer, calls = await self.answer_of(service, "calls 1")

        assert "LENGTH" == finish_of(answer)
        assert 1 <= len(calls) < 20

    @pytest.mark.needs("arguments")
    async def test_arguments_are_cut_where_they_are_kept(self, limited: Limited) -> None:
        service = await limited()

        answer, calls = await self.answer_of(service, "arguments 100000")

        assert ("done", 1) == (answer.content, len(calls))
        assert MAX_ARGUMENTS_BYTES == len(calls[0].arguments.encode())
        assert calls[0].arguments.endswith(MARK)

    @pytest.mark.needs("result")
    async def test_results_are_cut(self, limited: Limited) -> None:
        service = await limited()

        answer, calls = await self.answer_of(service, "result 100000")

        assert ("done", 1) == (answer.content, len(calls))
        assert MAX_RESULT_BYTES == len(calls[0].result.encode())
        assert calls[0].result.endswith(MARK)
