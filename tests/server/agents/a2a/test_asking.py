"""What goes out to a remote agent: the example of docs/remote-agents.md, and its bounds."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from google.protobuf.json_format import MessageToDict

from parley_server.agents.a2a.asking import MAX_HISTORY_BYTES, Asked
from parley_server.agents.a2a.state import TaskState
from parley_server.agents.a2a.texts import Told
from parley_server.core.model import AgentLimits, AgentRun, Context, Role, WindowMessage
from support.agent_runs import a_run, a_user_message, an_answer

DOCS = Path(__file__).parents[4] / "docs" / "remote-agents.md"
TURN = UUID("0199a4f2-6c1e-7d3a-9b52-0c4f2a1e8d11")
CONVERSATION = UUID("5f0c8f0e-3f55-4f0b-9a39-6d6f1b8e2c70")


def sent(run: AgentRun, task: TaskState | None = None) -> dict[str, Any]:
    message: dict[str, Any] = MessageToDict(Asked.of(run, {}).request(task))
    return message


def test_the_example_of_the_docs_is_what_is_sent() -> None:
    found = re.search(r"```json\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert found is not None
    example = json.loads(found[1])
    earlier = [a_user_message("Do you have pens?"), an_answer("Yes, at 120 cents.")]
    run = a_run("I take two.", earlier=earlier, instructions="You sell pens.", turn_id=TURN)
    run = replace(run, conversation_id=CONVERSATION, time_left_s=120)

    shown = sent(run)
    for name in ("parley.deadline", "parley.time_left_s"):
        assert type(example["metadata"][name]) is type(shown["metadata"][name])
        shown["metadata"][name] = example["metadata"][name]
    assert example == shown


def test_a_task_that_asked_for_input_is_named() -> None:
    assert "t7" == sent(a_run(), TaskState("t7"))["message"]["taskId"]
    assert "taskId" not in sent(a_run())["message"]


def test_system_messages_limits_and_what_is_left_out_are_told() -> None:
    run = a_run(earlier=[WindowMessage(4, Role.SYSTEM, "Prices have changed.")])
    run = replace(
        run,
        limits=AgentLimits(output_tokens=100),
        window=run.window._replace(context=Context(4, 2, 3)),
    )

    metadata = sent(run)["metadata"]

    assert [{"role": "system", "text": "Prices have changed."}] == metadata["parley.history"]
    assert (100, 3) == (metadata["parley.max_output_tokens"], metadata["parley.omitted_count"])


def test_a_long_history_loses_its_beginning() -> None:
    """Fails without MAX_HISTORY_BYTES: gRPC's servers take 4 MiB, and refuse the turn for good."""
    texts = [str(number) * 200_000 for number in range(30)]
    earlier = [a_user_message(text, number + 1) for number, text in enumerate(texts)]

    request = Asked.of(a_run("x" * 900_000, earlier=earlier), {}).request(None)

    told = MessageToDict(request)["metadata"]["parley.history"]
    left_out = MessageToDict(request)["metadata"]["parley.omitted_count"]
    assert texts[-len(told) :] == [message["text"] for message in told]
    assert 30 == len(told) + left_out
    assert MAX_HISTORY_BYTES < request.ByteSize() < 4 * 1024 * 1024


def test_only_the_answer_before_has_a_task_to_go_on_with() -> None:
    state = TaskState("t7", {"a1": Told.of("Which")})
    data = state.dumped("here:1", str(CONVERSATION))
    hello, answer = a_user_message("Hi"), an_answer("Which?")._replace(opaque_state=data)

    def found(*earlier: WindowMessage, at: str = "here:1", **changes: Any) -> TaskState | None:
        run = replace(a_run("This", earlier=earlier), conversation_id=CONVERSATION)
        return TaskState.of_run(replace(run, **changes), at)

    assert state == found(hello, answer)
    assert state == found(hello, answer, attempt=2)
    assert None is found(hello, answer, attempt=3)
    assert None is found(hello, answer, conversation_id=TURN), "a fork"
    assert None is found(hello, answer, at="there:1")
    assert None is found(answer, hello)
    assert None is found()
    before = data.replace(b'"digests"', b'"others"')
    of_before = TaskState("t7", {"a1": Told(5)})
    assert of_before == found(hello, an_answer("Which?")._replace(opaque_state=before))
    for other in (b"\xff", b"[]", b"{}", b'{"version":1,"provider":["openai","x"]}', b"null"):
        assert None is found(hello, answer._replace(opaque_state=other))
