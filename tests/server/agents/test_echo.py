"""The echo agent: what it says is what it was told."""

import asyncio

import pytest

from parley_server.agents.catalog import create_agent
from parley_server.core.model import Finish, FinishReason, Text, Usage
from support.agent_runs import a_run, a_user_message, an_answer, told_by


async def test_echo_answers_short_texts_with_one_piece_and_a_finish() -> None:
    events = [event async for event in create_agent("echo").run(a_run("Hello there"))]

    usage = Usage(input_tokens=2, output_tokens=2, cached_input_tokens=0, model_requests=1)
    assert [Text("Hello there"), Finish(FinishReason.STOP, "echo", usage)] == events


async def test_echo_answers_long_texts_in_a_few_pieces_without_loss() -> None:
    text = "".join(chr(0x4E00 + n) for n in range(1001))

    told = await told_by(create_agent("echo"), a_run(text))

    assert text == told.text
    assert 4 == len(told.pieces)


async def test_echo_counts_the_whole_window_as_input() -> None:
    earlier = [a_user_message("a" * 40), an_answer("b" * 40)]

    told = await told_by(create_agent("echo"), a_run("c" * 20, earlier=earlier))

    assert told.finish is not None
    assert told.finish.usage == Usage(25, 5, 0, 1)


async def test_echo_with_a_delay_thinks_that_long_and_can_be_stopped() -> None:
    agent = create_agent("echo:30")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(told_by(agent), timeout=0.05)

    started = asyncio.get_running_loop().time()
    await told_by(create_agent("echo:0.1"))
    assert 0.1 <= asyncio.get_running_loop().time() - started < 5
