"""Turns that wait for their caller: what they tell, what they are given, and how they go on."""

from parley.v1 import conversation_pb2 as messages
from support.services import WITH_AND_WITHOUT_ROW_SECURITY, StartService
from support.waiting import WEATHER, AskingAgent, result

ACTION_REQUIRED = messages.FINISH_REASON_ACTION_REQUIRED


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_turn_goes_on_once_it_is_given_the_result(start_service: StartService) -> None:
    agent = AskingAgent()
    service = await start_service(agent)

    asked = await service.chat("hello", request_id="r", tools=[WEATHER])

    assert (ACTION_REQUIRED, "1. ", 0) == (
        asked.finish_reason,
        asked.response,
        asked.response_sequence,
    )
    assert not asked.HasField("context")
    assert ["weather"] == [tool.name for tool in agent.runs[0].tools]
    (pending,) = asked.pending_calls
    assert ("weather", '{"city": "1-0"}', 1) == (pending.name, pending.arguments, pending.step)

    turn = await service.turn(request_id="r")
    assert messages.TURN_STATE_WAITING == turn.state
    assert [pending] == list(turn.pending_calls)
    assert 86_000 < turn.wait_end_time.seconds - turn.create_time.seconds < 86_500
    assert not turn.HasField("end_time")

    answer = await service.resume(result(pending), request_id="r")

    assert ("1. done: sunny", 2, False) == (
        answer.response,
        answer.response_sequence,
        answer.replayed,
    )
    assert [("weather", "sunny")] == [(c.name, c.result) for c in answer.tool_calls]
    assert ["weather"] == [tool.name for tool in agent.runs[1].tools]
    assert "hello" == agent.runs[1].window.messages[-1].content
    turn = await service.turn(request_id="r")
    assert (messages.TURN_STATE_COMPLETED, 2, 0) == (
        turn.state,
        turn.attempt,
        len(turn.pending_calls),
    )
