"""A user's agent in a thread of its own: whatever it does to that thread, the others go on."""

import asyncio
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from itertools import count
from pathlib import Path

import pytest

from parley_server.agents import home, threaded
from parley_server.agents.catalog import close_agent, create_agent
from parley_server.agents.errors import BadAgent
from parley_server.agents.threaded import ROOM, ThreadedAgent
from parley_server.core.errors import AgentRefused, AgentUnavailable
from parley_server.core.model import (
    NO_STEPS,
    AgentEvent,
    GivenKind,
    PendingKind,
    StepKind,
    Text,
)
from support.agent_runs import a_run, told_by
from support.fake_openai import Call, Fail, FakeOpenAI, Say
from support.waiting_turns import WaitingTurn

START = """
import asyncio, threading, time
from pydantic_ai import Agent
agent = Agent("openai-chat:any", defer_model_check=True)
"""

numbers = count(1000)
MakeAgent = Callable[[str, FakeOpenAI], ThreadedAgent]


@pytest.fixture
async def make_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeAgent]:
    """Make an agent of a module's text; it is closed at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(home, "CLOSE_S", 0.5)
    made: list[ThreadedAgent] = []

    def make(text: str, fake: FakeOpenAI) -> ThreadedAgent:
        module = f"users_module_{next(numbers)}"
        (tmp_path / f"{module}.py").write_text(START + textwrap.dedent(text))
        agent = create_agent(f"python:{module}:agent", openai_base_url=fake.base_url)
        assert isinstance(agent, ThreadedAgent)
        made.append(agent)
        return agent

    yield make
    await asyncio.gather(*(close_agent(agent) for agent in made))


async def test_it_answers_with_tools_and_names_its_model(make_agent: MakeAgent) -> None:
    with FakeOpenAI([Say("One moment. ", [Call("where")]), Say("Done.")]) as fake:
        agent = make_agent(
            """
            @agent.tool_plain
            async def where() -> str:
                return threading.current_thread().name
            """,
            fake,
        )
        told = await told_by(agent)

    assert "any" == agent.model
    assert agent.context_tokens is None
    assert "One moment. Done." == told.text
    (call,) = told.calls
    assert call.result.startswith("agent users_module_")
    assert told.finish is not None
    assert told.finish.usage is not None


async def test_it_waits_for_its_caller_and_goes_on(make_agent: MakeAgent) -> None:
    with FakeOpenAI([Say("", [Call("pay"), Call("mine")]), Say("Done.")]) as fake:
        agent = make_agent(
            """
            @agent.tool_plain(requires_approval=True)
            async def pay() -> str:
                return threading.current_thread().name
            """,
            fake,
        )
        turn = WaitingTurn(agent)
        first, second = await turn.waits()
        turn.give(first, GivenKind.APPROVAL)
        turn.give(second, GivenKind.RESULT, "3")
        told = await turn.attempt()

    assert (PendingKind.APPROVAL, PendingKind.RESULT) == (first.kind, second.kind)
    paid, mine = told.calls
    assert paid.result.startswith("agent users_module_")
    assert ("3", "Done.") == (mine.result, told.text)
    assert [paid, mine] == agent.retold(turn.steps.stored)


async def test_errors_of_the_provider_and_of_the_users_code_come_over(
    make_agent: MakeAgent,
) -> None:
    with FakeOpenAI([Fail(400), Say("Fine.")]) as fake:
        agent = make_agent(
            """
            asked = []

            @agent.instructions
            def second_time_broken() -> str:
                asked.append(1)
                if len(asked) == 2:
                    raise LookupError
                return "Go."
            """,
            fake,
        )
        with pytest.raises(AgentRefused):
            await told_by(agent)
        with pytest.raises(LookupError):
            await told_by(agent)
        assert "Fine." == (await told_by(agent)).text


async def test_a_tool_that_blocks_its_thread_stops_nobody_else(make_agent: MakeAgent) -> None:
    """Run on the worker's own loop, the same tool would stop every turn for a minute."""
    with FakeOpenAI([Say("", [Call("block")])]) as bad, FakeOpenAI([Say("Fine.")]) as good:
        blocking = make_agent(
            """
            @agent.tool_plain
            async def block() -> str:
                time.sleep(60)
                return "late"
            """,
            bad,
        )
        other = make_agent("", good)
        task = asyncio.create_task(told_by(blocking))
        await wait_until(lambda: bool(bad.requests))
        await asyncio.sleep(0.2)

        assert "Fine." == (await asyncio.wait_for(told_by(other), 5)).text
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 0.5, "the caller is released at once"


async def wait_until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_a_synchronous_tool_that_blocks_holds_up_no_other_turn(
    make_agent: MakeAgent,
) -> None:
    def script(request: dict[str, object]) -> Say:
        return Say("", [Call("block")]) if "block me" in str(request) else Say("Fine.")

    with FakeOpenAI([script]) as fake:
        agent = make_agent(
            """
            go_on = None  # the test's

            @agent.tool_plain
            def block() -> str:
                go_on.wait(30)
                return "late"
            """,
            fake,
        )
        go_on = threading.Event()
        newest = max(name for name in sys.modules if name.startswith("users_module_"))
        vars(sys.modules[newest])["go_on"] = go_on
        task = asyncio.create_task(told_by(agent, a_run("block me")))
        await wait_until(lambda: bool(fake.requests))

        assert "Fine." == (await asyncio.wait_for(told_by(agent, a_run("other")), 5)).text

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 0.5)
        go_on.set()


async def test_a_cancelled_run_leaves_the_provider(make_agent: MakeAgent) -> None:
    with FakeOpenAI([Say("Hello, how are you?", stall_after=3)]) as fake:
        agent = make_agent("", fake)
        async with aclosing(agent.run(a_run())) as events:
            assert Text("Hell") == await asyncio.wait_for(anext(events), 5)

        assert await asyncio.to_thread(fake.requests[0].left.wait, 5)


async def test_a_run_that_the_worker_ends_is_no_error(
    make_agent: MakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker leaves a run at its Finish, often before the agent has cleaned up behind it."""
    with FakeOpenAI([Say("Hello, how are you?", stall_after=3)]) as fake:
        async with aclosing(make_agent("", fake).run(a_run())) as events:
            await anext(events)
        await asyncio.to_thread(fake.requests[0].left.wait, 5)
        await asyncio.sleep(0.1)

    assert [] == [r for r in caplog.records if r.getMessage() == "agent raised"]


async def test_an_empty_base_url_is_one_that_is_not_set(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with FakeOpenAI([Say("Fine.")]) as fake:
        agent = make_agent("agent = Agent('openai-chat:any')", fake)

    model = agent._inner._model  # noqa: SLF001 - asking it would be a call to the real provider
    assert "https://api.openai.com/v1/" == str(model.base_url)


async def test_an_agent_that_is_not_read_waits(make_agent: MakeAgent) -> None:
    """Its events must not pile up in memory while the worker is busy elsewhere."""
    with FakeOpenAI([Say("x" * 50_000_000, piece=1024)]) as fake:
        agent = make_agent("", fake)
        async with aclosing(agent.run(a_run())) as events:
            await anext(events)
            await asyncio.sleep(0.5)
            ahead = await read_what_is_there(events)

        assert 0 < ahead <= ROOM
        assert await asyncio.to_thread(fake.requests[0].left.wait, 5)


async def read_what_is_there(events: AsyncGenerator[AgentEvent, None]) -> int:
    """Read until the loop would have to turn. Returns: how many events were there."""
    read = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            async for _ in events:
                read += 1
    return read


async def test_a_long_answer_comes_over_whole(make_agent: MakeAgent) -> None:
    text = "".join(f"{n} " for n in range(2_000))
    with FakeOpenAI([Say(text, piece=7)]) as fake:
        told = await told_by(make_agent("", fake))

    assert text == told.text


async def test_code_that_exits_ends_its_run_and_not_the_thread(make_agent: MakeAgent) -> None:
    with FakeOpenAI([Say("Fine.")]) as fake:
        agent = make_agent(
            """
            asked = []

            @agent.instructions
            async def leave() -> str:
                asked.append(1)
                if len(asked) == 1:
                    raise SystemExit(1)
                if len(asked) == 2:
                    raise asyncio.CancelledError
                return "Stay."
            """,
            fake,
        )
        for _ in range(2):
            with pytest.raises(AgentUnavailable):
                await asyncio.wait_for(told_by(agent), 5)

        assert "Fine." == (await told_by(agent)).text


async def test_one_agent_answers_many_turns_at_once(make_agent: MakeAgent) -> None:
    with FakeOpenAI([Say("Hello there.")]) as fake:
        agent = make_agent("", fake)

        answers = await asyncio.gather(*(told_by(agent) for _ in range(50)))

    assert {"Hello there."} == {told.text for told in answers}


async def test_closing_leaves_the_agent_in_the_thread_that_entered_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "entering_module.py").write_text(
        START
        + textwrap.dedent(
            """
            steps = []

            class Entering(Agent):
                async def __aenter__(self):
                    steps.append(("entered", asyncio.current_task()))
                    return await super().__aenter__()

                async def __aexit__(self, *error):
                    steps.append(("left", asyncio.current_task()))
                    return await super().__aexit__(*error)

            agent = Entering("test")
            """
        )
    )
    agent = create_agent("python:entering_module:agent")
    before = threading.active_count()

    await close_agent(agent)

    import entering_module  # type: ignore[import-not-found]  # written above

    (first, entered_in), (second, left_in) = entering_module.steps
    assert ("entered", "left") == (first, second)
    assert entered_in is left_in
    await wait_until(lambda: threading.active_count() < before)


@pytest.mark.parametrize(
    ("text", "attribute", "expected"),
    [
        ("agent = 1", "agent", "'agent' in the module 'bad_module' must be a pydantic_ai.Agent"),
        ("", "agent", "'agent' in the module 'bad_module' must be a pydantic_ai.Agent"),
        ("1 / 0", "agent", "ZeroDivisionError in"),
        ("raise SystemExit", "agent", "SystemExit in"),
        ("import nothing_of_the_kind", "agent", "needs the module nothing_of_the_kind"),
        ("from pydantic_ai import Agent\nagent = Agent()", "agent", "must name its model"),
        ("from pydantic_ai import Agent\nagent = Agent('openai:x')", "agent", "OPENAI_API_KEY"),
        (
            "from pydantic_ai import Agent\nagent = Agent('nope:x', defer_model_check=True)",
            "agent",
            "not a provider",
        ),
    ],
)
def test_a_module_that_cannot_be_used_is_refused_in_one_sentence(
    text: str, attribute: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delitem(sys.modules, "bad_module", raising=False)
    (tmp_path / "bad_module.py").write_text(text)

    with pytest.raises(BadAgent) as caught:
        create_agent(f"python:bad_module:{attribute}")

    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", ["LookupError('hidden')", "SystemExit(1)"])
def test_an_agent_that_cannot_be_entered_is_refused(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one with a server of tools that is down."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "closed_module", raising=False)
    (tmp_path / "closed_module.py").write_text(
        START
        + textwrap.dedent(
            f"""
            class Closed(Agent):
                async def __aenter__(self):
                    raise {error}

            agent = Closed("test")
            """
        )
    )

    with pytest.raises(BadAgent, match=f"cannot be started: {error.split('(')[0]}") as caught:
        create_agent("python:closed_module:agent")

    assert "hidden" not in str(caught.value)


def test_a_module_of_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("unrelated")
    (tmp_path / "here_module.py").write_text("from pydantic_ai import Agent\nagent = Agent('test')")

    assert "test" == create_agent("python:here_module:agent").model


async def test_module_for_turns_that_wait_does_what_its_message_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path))
    agent = create_agent("python:support.approving_module:agent")
    try:
        run = a_run("mine+pay+look send+order spend")
        turn = WaitingTurn(agent, run=run)
        asked = []
        for _ in range(3):
            pending = await turn.waits()
            asked.append([call.name for call in pending])
            for call in pending:
                is_approval = call.kind is PendingKind.APPROVAL
                kind = GivenKind.APPROVAL if is_approval else GivenKind.RESULT
                turn.give(call, kind, "" if is_approval else f"{call.name}: given")
        told = await turn.attempt()
    finally:
        await close_agent(agent)

    assert [["mine", "pay"], ["send", "order"], ["spend"]] == asked
    assert told.text.startswith("Step 1. Step 2. Step 3. Done: ")
    assert [
        "mine: given",
        "pay: done",
        "look: done",
        "send: done",
        "order: given",
        "spend: done",
    ] == [call.result for call in told.calls]
    noted = [line.split()[0] for line in (tmp_path / "notes").read_text().splitlines()]
    assert ["look", "pay", "send", "spend"] == noted


async def test_step_that_comes_after_the_workers_loop_is_closed_leaves_no_coroutine() -> None:
    """Fails when the coroutine that would have stored it is neither awaited nor closed."""
    ended = asyncio.new_event_loop()
    ended.close()
    steps = threaded._StepsOfWorker(NO_STEPS, ended)  # noqa: SLF001 - a run gets nothing else
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(RuntimeError, match="closed"):
            await steps.store(StepKind.RESULT, "{}")
    assert [] == told
