"""Turns that wait, whose workers go away: no tool that has ended runs again, and none unasked."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_ai import Agent, ApprovalRequired, CallDeferred, RunContext
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from parley_server.agents.pydantic_agent import PydanticAgent
from parley_server.agents.steps import MAY_HAVE_RUN, call_key
from parley_server.core.model import GivenKind, PendingCall, PendingKind, StepKind
from support.agent_runs import Told, a_run
from support.kept_steps import Worker
from support.waiting_turns import WaitingTurn, a_caller_tool

NAMES = ("note", "mine", "ship", "spend", "order")
"""Tools: the server's own, the caller's, two that need approval, and one that defers its calls."""
RUN_HERE = {"note", "ship", "spend"}


@dataclass
class Shop:
    """A turn whose model asks for the tools that it is told to, step by step."""

    steps: Sequence[Sequence[str]]
    is_once: bool = False
    worker: Worker = field(default_factory=Worker)
    begun: list[str] = field(default_factory=list)
    """The keys of calls whose tool has begun."""
    unasked: list[str] = field(default_factory=list)
    """Those of calls that began before they were approved."""
    ended: list[str] = field(default_factory=list)
    approved: set[str] = field(default_factory=set)
    turn: WaitingTurn = field(init=False)

    def __post_init__(self) -> None:
        model = FunctionModel(stream_function=self.speak)
        agent = Agent(model)
        metadata = {"once": self.is_once}
        agent.tool(metadata=metadata)(self.note)
        agent.tool(metadata=metadata)(self.spend)
        agent.tool(metadata=metadata)(self.order)
        agent.tool(metadata=metadata, requires_approval=True)(self.ship)
        tools = (a_caller_tool(),)
        self.turn = WaitingTurn(PydanticAgent(agent, model), tools, self.worker, a_run())

    async def speak(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        await self.worker.point()
        parts = [p for m in messages if isinstance(m, ModelRequest) for p in m.parts]
        told = [part for part in parts if isinstance(part, ToolReturnPart)]
        done = len({part.tool_call_id.split("-")[0] for part in told})
        if done == len(self.steps):
            yield "Done: " + " ".join(f"{p.tool_call_id}={p.content}" for p in told)
        else:
            yield f"Step {done}. "
            yield {
                n: DeltaToolCall(name, f'{{"n":{n}}}', tool_call_id=f"{done}-{n}")
                for n, name in enumerate(self.steps[done])
            }
        await self.worker.point()

    async def work(self, ctx: RunContext[Any]) -> str:
        key = ctx.metadata["call_key"]  # type: ignore[index]  # it is given
        self.begun.append(key)
        await self.worker.point()
        self.ended.append(key)
        return f"worked on {ctx.tool_call_id}"

    async def note(self, ctx: RunContext[Any], n: int) -> str:
        return await self.work(ctx)

    async def ship(self, ctx: RunContext[Any], n: int) -> str:
        self.check(ctx)
        return await self.work(ctx)

    async def spend(self, ctx: RunContext[Any], n: int) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        self.check(ctx)
        return await self.work(ctx)

    async def order(self, ctx: RunContext[Any], n: int) -> str:
        raise CallDeferred

    def check(self, ctx: RunContext[Any]) -> None:
        key = ctx.metadata["call_key"]  # type: ignore[index]  # it is given
        if key not in self.approved:
            self.unasked.append(key)

    def give(self, call: PendingCall) -> None:
        """Give what the call's place says: every third call is denied, or has failed."""
        is_bad = int(call.id.split("-")[1]) % 3 == 2
        if call.kind is PendingKind.APPROVAL:
            if not is_bad:
                self.approved.add(call.call_key)
            kind = GivenKind.DENIAL if is_bad else GivenKind.APPROVAL
        else:
            kind = GivenKind.ERROR if is_bad else GivenKind.RESULT
        text = "" if kind is GivenKind.APPROVAL else f"given for {call.id}"
        self.turn.give(call, kind, text)

    async def to_the_end(
        self, deaths: Sequence[int] = (), at_once: Sequence[int] = (), is_reversed: bool = False
    ) -> Told:
        """Run the turn to its end.

        Args:
            deaths: at which point the worker of each attempt goes away, as long as they last.
            at_once: how many pending calls are given before each attempt; behind it: all.
        """
        left, given_at_once = list(deaths), list(at_once)
        asked: list[PendingCall] = []
        while True:
            has_result = self.with_result()
            begun = len(self.begun)
            told = await self.turn.attempt_until(left.pop(0) if left else 10**9)
            again = set(self.begun[begun:]) & has_result
            assert not again, "a tool whose result was stored has run again"
            assert not self.unasked, "a tool has run that was not approved"
            if told is None:
                continue
            if told.awaiting is None:
                assert told.finish is not None
                return told
            calls = list(told.awaiting.calls)
            if asked:
                assert calls == asked, "it waits for what was not given"
            calls = calls[::-1] if is_reversed else calls
            several = given_at_once.pop(0) if given_at_once else len(calls)
            for call in calls[:several]:
                self.give(call)
            asked = sorted(calls[several:], key=lambda c: (c.step, int(c.id.split("-")[1])))

    def with_result(self) -> set[str]:
        bodies = [json.loads(s.body) for s in self.turn.steps.stored if s.kind is StepKind.RESULT]
        places = [body["place"] for body in bodies if "messages" in body]
        return {call_key(self.turn.run.turn_id, *place) for place in places}

    def run_here(self) -> set[str]:
        """Return the keys of the calls whose tool runs in the server, denied ones left out."""
        turn_id = self.turn.run.turn_id
        return {
            call_key(turn_id, step, n)
            for step, names in enumerate(self.steps, 1)
            for n, name in enumerate(names)
            if name == "note" or (name in RUN_HERE and n % 3 != 2)
        }


MIX = (("note", "mine", "ship", "spend", "order", "ship"), ("note",), ("mine", "note", "spend"))


async def test_undisturbed_turn_is_as_its_calls_say() -> None:
    shop = Shop(MIX)
    told = await shop.to_the_end()

    assert ["0-0", "0-1", "0-2", "0-3", "0-4", "0-5", "1-0", "2-0", "2-1", "2-2"] == [
        call.id for call in told.calls
    ]
    assert {
        "0-0": "worked on 0-0",
        "0-1": "given for 0-1",
        "0-2": "given for 0-2",
        "0-3": "worked on 0-3",
        "0-4": "given for 0-4",
        "0-5": "given for 0-5",
        "1-0": "worked on 1-0",
        "2-0": "given for 2-0",
        "2-1": "worked on 2-1",
        "2-2": "given for 2-2",
    } == {call.id: call.result for call in told.calls}
    assert {"0-2", "0-5", "2-2"} == {call.id for call in told.calls if call.is_error}
    assert told.text.startswith("Step 0. Step 1. Step 2. Done: ")
    assert Counter(shop.run_here()) == Counter(shop.ended)


POINTS = 34
"""How many the longest attempt passes, or a little more."""


def as_told(told: Told) -> Any:
    """Return what is the same however often a turn was tried."""
    return told.text, told.calls, told.finish and told.finish.usage


@pytest.mark.parametrize("dies_at", range(1, POINTS))
async def test_turn_whose_worker_goes_away_before_it_waits_is_as_without(dies_at: int) -> None:
    expected = await Shop(MIX).to_the_end()
    shop = Shop(MIX)
    told = await shop.to_the_end([dies_at])

    assert as_told(expected) == as_told(told)
    assert shop.run_here() == set(shop.ended)


@pytest.mark.parametrize("dies_at", range(1, POINTS))
async def test_turn_whose_worker_goes_away_after_it_was_resumed_is_as_without(dies_at: int) -> None:
    """Fails when an approval is forgotten, or an approved call's result is not stored."""
    expected = await Shop(MIX).to_the_end()
    shop = Shop(MIX)
    told = await shop.to_the_end([10**9, dies_at, 10**9, dies_at])

    assert as_told(expected) == as_told(told)
    assert shop.run_here() == set(shop.ended)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5), max_size=3),
    deaths=st.lists(st.integers(1, POINTS), max_size=5),
    at_once=st.lists(st.integers(0, 3), max_size=5),
    is_reversed=st.booleans(),
)
def test_deaths_and_the_order_of_giving_change_nothing(
    steps: list[list[str]], deaths: list[int], at_once: list[int], is_reversed: bool
) -> None:
    expected = asyncio.run(Shop(steps).to_the_end())
    shop = Shop(steps)
    told = asyncio.run(shop.to_the_end(deaths, at_once, is_reversed))

    assert as_told(expected) == as_told(told)
    assert shop.run_here() == set(shop.ended)


# Tools that have to run once


@pytest.mark.parametrize("name", ["ship", "spend"])
async def test_approved_call_of_a_tool_that_is_once_runs(name: str) -> None:
    """Fails when the tool counts as begun since the attempt that asked for its approval."""
    shop = Shop([[name]], is_once=True)
    told = await shop.to_the_end()

    assert ["worked on 0-0"] == [call.result for call in told.calls]
    assert 1 == len(shop.begun)


async def test_call_that_was_deferred_by_a_tool_that_is_once_gets_its_result() -> None:
    told = await Shop([["order"]], is_once=True).to_the_end()

    assert ["given for 0-0"] == [call.result for call in told.calls]


@pytest.mark.parametrize("name", ["ship", "spend"])
async def test_approved_call_that_is_once_is_not_run_again_and_its_result_says_so(
    name: str,
) -> None:
    shop = Shop([[name]], is_once=True)
    (call,) = await shop.turn.waits()
    shop.give(call)
    assert await shop.turn.attempt_until(3) is None
    assert (1, []) == (len(shop.begun), shop.ended), "it is not in the midst of the tool"
    told = await shop.turn.attempt()

    assert [(MAY_HAVE_RUN, True)] == [(call.result, call.is_error) for call in told.calls]
    assert 1 == len(shop.begun)


@pytest.mark.parametrize("dies_at", range(1, POINTS))
async def test_tool_that_is_once_begins_at_most_once(dies_at: int) -> None:
    shop = Shop(MIX, is_once=True)
    await shop.to_the_end([10**9, dies_at, dies_at])

    assert {1} == set(Counter(shop.begun).values())
