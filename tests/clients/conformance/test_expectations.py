"""What a scenario expects is something that a result can have: a slip in a path finds nothing.

Much of what is expected holds of nothing: that it is absent, empty, 0, or not equal to something.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb

FOLDER = Path(__file__).parents[3] / "clients" / "conformance"
SCENARIOS = json.loads((FOLDER / "scenarios.json").read_text("utf-8"))["scenarios"]

VALUE = "a value"
MAP = "a map"
EVENT = pb.StreamChatResponse.DESCRIPTOR
REHEARSAL = pb.RehearseTurnResponse.DESCRIPTOR
STREAM = {
    "events": [EVENT],
    "started": [pb.TurnStarted.DESCRIPTOR],
    "text": VALUE,
    "indexes": [VALUE],
    "attempts": [VALUE],
    "completed": pb.ChatResponse.DESCRIPTOR,
}
MESSAGES = [parts.Message.DESCRIPTOR]
TURNS = [parts.Turn.DESCRIPTOR]
CONVERSATIONS = [parts.Conversation.DESCRIPTOR]
RESULTS: dict[str, Any] = {
    "chat": pb.ChatResponse.DESCRIPTOR,
    "resume_turn": pb.ChatResponse.DESCRIPTOR,
    "start_turn": pb.StartTurnResponse.DESCRIPTOR,
    "stream": STREAM,
    "stream_resume_turn": STREAM,
    "history": {"messages": MESSAGES},
    "history_page": pb.GetHistoryResponse.DESCRIPTOR,
    "conversations": {"conversations": CONVERSATIONS},
    "conversations_page": pb.ListConversationsResponse.DESCRIPTOR,
    "create_conversation": pb.CreateConversationResponse.DESCRIPTOR,
    "conversation": parts.Conversation.DESCRIPTOR,
    "update_conversation": parts.Conversation.DESCRIPTOR,
    "undelete_conversation": parts.Conversation.DESCRIPTOR,
    "delete_conversation": pb.DeleteConversationResponse.DESCRIPTOR,
    "append_messages": pb.AppendMessagesResponse.DESCRIPTOR,
    "fork_conversation": pb.ForkConversationResponse.DESCRIPTOR,
    "export": {
        "conversations": CONVERSATIONS,
        "messages": MESSAGES,
        "done": [VALUE],
        "cursors": [VALUE],
        "conversation_ids": [VALUE],
    },
    "erase_owner": pb.EraseOwnerResponse.DESCRIPTOR,
    "usage": pb.GetUsageResponse.DESCRIPTOR,
    "turn": parts.Turn.DESCRIPTOR,
    "cancel_turn": parts.Turn.DESCRIPTOR,
    "list_agents": pb.ListAgentsResponse.DESCRIPTOR,
    "explain_turn": pb.ExplainTurnResponse.DESCRIPTOR,
    "rehearse_turn": {
        "events": [REHEARSAL],
        "started": REHEARSAL.fields_by_name["started"].message_type,
        "text": VALUE,
        "tool_calls": [parts.ToolCall.DESCRIPTOR],
        "completed": REHEARSAL.fields_by_name["completed"].message_type,
    },
    "watch": {
        "messages": MESSAGES,
        "turns": TURNS,
        "events": [EVENT],
        "progress": [pb.WatchProgress.DESCRIPTOR],
        "deleted": [VALUE],
    },
    "watch_turns": {"turns": TURNS, "cursors": [VALUE], "users": [VALUE], "progress": [VALUE]},
}
ERROR = {
    "code": VALUE,
    "reason": VALUE,
    "message": VALUE,
    "metadata": MAP,
    "violations": [{"field": VALUE, "reason": VALUE}],
    "retry_after_s": VALUE,
    "request_id": VALUE,
}


def has(shape: Any, path: str) -> bool:
    """Say whether something of a shape can have a value at a path."""
    if not path:
        return True
    step, _, rest = path.partition(".")
    if isinstance(shape, list):
        return bool(re.fullmatch(r"\*|-?\d+", step)) and has(shape[0], rest)
    if isinstance(shape, dict):
        return step in shape and has(shape[step], rest)
    if isinstance(shape, Descriptor):
        field = shape.fields_by_name.get(step)
        return field is not None and has(shape_of(field), rest)
    return shape == MAP and not rest


def shape_of(field: FieldDescriptor) -> Any:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return MAP
    is_message = message is not None and not message.full_name.startswith("google.protobuf.")
    shape = message if is_message else VALUE
    return [shape] if field.is_repeated else shape


def paths_in(scenario: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each path that a scenario looks at, with the call whose result it is of."""
    calls: dict[str, str] = {}
    for step in scenario["steps"]:
        call = step.get("call") or calls[step["wait"]]
        for path in step.get("expect", {}):
            yield call, path
        if "as" in step:
            calls[step["as"]] = call
    for name, path in re.findall(r"\$\{(\w+)\.([^}]+)\}", json.dumps(scenario["steps"])):
        if name in calls:
            yield calls[name], path


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_scenario_looks_at_what_a_result_can_have(scenario: dict[str, Any]) -> None:
    wrong = [
        (call, path)
        for call, path in paths_in(scenario)
        if not (has(RESULTS[call], path) or has({"error": ERROR}, path))
    ]
    assert [] == wrong


@pytest.mark.parametrize(
    ("call", "path"),
    [
        ("chat", "usr_sequence"),
        ("chat", "messages"),
        ("chat", "tool_calls.name"),
        ("chat", "response.0"),
        ("watch", "messages.0.turn.id"),
        ("turn", "errors.code"),
        ("turn", "error.reasons"),
    ],
)
def test_a_slip_in_a_path_is_found(call: str, path: str) -> None:
    assert not has(RESULTS[call], path)
    assert not has({"error": ERROR}, path)
