"""Experiment 13: agents that raise, hang, block, exit, say 50 MB and repeat themselves.

Each of it alone, and of every provider: tests/server/test_killers.py and tests/server/agents.
"""

import asyncio
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley.v1 import conversation_service_pb2_grpc
from support.processes import ServerProcess
from support.services import an_id, metadata
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.load import reason_of

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

EXPERIMENT = Experiment(
    number=13,
    done="agents raise, hang, block, exit, say 50 MB and repeat themselves, all at once",
    holds="each call ends with a status within the time of a turn",
    protection="a turn has a time, after which its agent is left",
    removal="turns of a minute",
    short_s=6,
    long_s=60,
)
TURN_S = 3
ENDS_S = 12
"""A turn's time, its overtime, and what a busy machine takes."""
WAYS = ("raise", "hang", "block", "exit", "fifty", "repeat", "hello")
GROUPS = (("raise",), ("fifty",), ("repeat",), ("hang",), ("exit",), WAYS)
"""What is asked at once: each alone, so that what it comes to by itself is known, and then all."""
EXPECTED: dict[str, set[str]] = {
    "raise": {"AGENT_UNAVAILABLE"},
    "hang": {"AGENT_TIMEOUT"},
    "fifty": {"OK"},
    "repeat": {"OK"},
    "exit": {"UNAVAILABLE"},
    "hello": {"OK"},
}
WHEREVER = {"AGENT_TIMEOUT", "UNAVAILABLE", "ATTEMPTS_EXHAUSTED", "LEASE_LOST", "OVERLOADED"}
"""What may become of any turn beside one that blocks the agents, or ends the worker."""
SETTLED_S = 40

MODULE = """
    import asyncio
    import os
    import time

    from pydantic_ai import Agent
    from pydantic_ai.models.function import DeltaToolCall, FunctionModel


    async def speak(messages, info):
        asked = messages[0].parts[-1].content
        if asked == "raise":
            raise RuntimeError("raised")
        if asked == "hang":
            await asyncio.Event().wait()
        if asked == "block":
            time.sleep(5)
        if asked == "exit":
            os._exit(1)
        if asked == "fifty":
            for _ in range(50):
                yield "x" * 1_000_000
        elif asked == "repeat":
            yield {0: DeltaToolCall(name="again", json_args="{}", tool_call_id="c")}
        else:
            yield "said"


    agent = Agent(FunctionModel(stream_function=speak))


    @agent.tool_plain
    def again() -> str:
        return "again"
"""


async def end_of(trial: Trial, port: int, way: str) -> str:
    """Make one turn, without a deadline of the caller's own. Returns: how it ended.

    Its time begins once a worker is there to be asked: one that was ended comes back in seconds.
    """
    alone = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", alone) as channel:
        async with asyncio.timeout(SETTLED_S):
            await channel.channel_ready()
        began = time.monotonic()
        stub: Any = conversation_service_pb2_grpc.ConversationServiceStub(channel)
        call = stub.Chat(
            pb.ChatRequest(message=way, request_id=an_id()),
            metadata=metadata("ada"),
            wait_for_ready=True,
        )
        try:
            async with asyncio.timeout(ENDS_S):
                await call
        except TimeoutError:
            trial.expect(False, f"unended: {way} has no status after {ENDS_S} s")
            return "-"
        except grpc.aio.AioRpcError as error:
            return reason_of(error)
        finally:
            trial.log.note(f"{way}: {time.monotonic() - began:.1f} s")
        return "OK"


@pytest.fixture
def attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "broken_module.py").write_text(textwrap.dedent(MODULE))

    async def attack(trial: Trial) -> None:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        ends: Counter[tuple[str, str]] = Counter()
        with ServerProcess(
            trial.database_url,
            agent="python:broken_module:agent",
            workers=2,
            lease_s=1.5,
            max_attempts=2,
            chat_timeout_s=TURN_S if trial.is_protected else 60,
        ) as server:
            for _ in range(max(1, int(trial.seconds / 6))):
                for ways in GROUPS if trial.is_protected else (("hang",),):
                    found = await asyncio.gather(*(end_of(trial, server.port, w) for w in ways))
                    for way, end in zip(ways, found, strict=True):
                        ends[way, end] += 1
                        is_fine = way not in EXPECTED or end in EXPECTED[way]
                        may_suffer = ways is WAYS and end in WHEREVER
                        trial.expect(is_fine or may_suffer, f"wrong: {way} ended with {end}")
            answer = "-"
            until = time.monotonic() + SETTLED_S
            while answer != "OK" and time.monotonic() < until:
                answer = await end_of(trial, server.port, "hello")
            trial.expect(answer == "OK", f"stuck: afterwards a turn ends with {answer}")
        told = (f"{way}: {end}" for way, end in sorted(ends) if way != "hello")
        trial.figures["ends"] = ", ".join(told)

    return attack


async def test_each_turn_of_a_broken_agent_has_a_status(lab: Lab, attack: Any) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_turns_without_an_end_are_noticed(lab: Lab, attack: Any) -> None:
    await lab.notices(attack, without="time", because="unended")
