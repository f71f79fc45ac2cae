"""Messages as callers append them."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_pb2


def user(content: str, **fields: Any) -> conversation_pb2.Message:
    return conversation_pb2.Message(role=conversation_pb2.ROLE_USER, content=content, **fields)


def assistant(content: str, **fields: Any) -> conversation_pb2.Message:
    return conversation_pb2.Message(role=conversation_pb2.ROLE_ASSISTANT, content=content, **fields)


def system(content: str, **fields: Any) -> conversation_pb2.Message:
    return conversation_pb2.Message(role=conversation_pb2.ROLE_SYSTEM, content=content, **fields)


def tool_call(call_id: str, **fields: Any) -> conversation_pb2.ToolCall:
    given = {"name": "look", "arguments": "{}", "step": 1, **fields}
    return conversation_pb2.ToolCall(id=call_id, **given)


def a_time(year: int, month: int = 1, day: int = 1, microsecond: int = 0) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(datetime(year, month, day, microsecond=microsecond, tzinfo=UTC))
    return time
