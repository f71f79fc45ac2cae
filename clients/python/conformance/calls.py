"""Makes a scenario's calls through the client library, and returns their results as JSON."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client import ParleyError

Result = dict[str, Any]
NUMBERS = (
    "expected_sequence",
    "after_sequence",
    "min_sequence",
    "page_size",
    "expected_revision",
    "up_to_sequence",
)
"""Arguments that are numbers, but may come from a result as text."""


def make_call(
    client: Any, call: str, arguments: Result, until: dict[str, int], has_begun: Callable[[], None]
) -> Result:
    """Make a call and return its result, or its error.

    Args:
        client: a ParleyClient, or something with its surface.
        arguments: as in the scenario, with its variables replaced.
        until: how much of a stream to read before closing it.
        has_begun: called when a stream has begun to arrive.
    """
    options = _options(arguments)
    result: Result = {}
    try:
        match call:
            case "stream":
                _read_stream(client.stream(**options), until, has_begun, result)
            case "stream_resume_turn":
                _read_stream(client.stream_resume_turn(**options), until, has_begun, result)
            case "rehearse_turn":
                _read_rehearsal(client.rehearse_turn(**options), until, result)
            case "watch":
                _read_watch(client.watch(**options), until, has_begun, result)
            case "watch_turns":
                _read_turns(client.watch_turns(**options), until, has_begun, result)
            case "export":
                _read_export(client.export(**options), result)
            case "history":
                result["messages"] = [_json(m) for m in client.history(**options)]
            case "conversations":
                result["conversations"] = [_json(c) for c in client.conversations(**options)]
            case _:
                result = _json(getattr(client, call)(**options))
    except ParleyError as error:
        result["error"] = _error(error)
    return result


def _options(arguments: Result) -> Result:
    """Return the client's arguments for those of a scenario."""
    options = dict(arguments)
    for name in NUMBERS:
        if name in options:
            options[name] = int(options[name])
    if isinstance(labels := options.get("labels"), list):  # a list's, written KEY=VALUE
        pairs = (text.partition("=") for text in labels)
        options["labels"] = {key: value for key, _, value in pairs}
    if "messages" in options:
        options["messages"] = [_message(given) for given in options["messages"]]
    if "tools" in options:
        options["tools"] = [conversation_pb2.Tool(**given) for given in options["tools"]]
    if "results" in options:
        options["results"] = [ParseDict(given, pb.CallResult()) for given in options["results"]]
    if "updated_after" in options:
        moment = Timestamp()
        moment.FromJsonString(options["updated_after"])
        options["updated_after"] = moment
    return options


def _message(given: Result) -> conversation_pb2.Message:
    """Return a message to append: words stand for the values of enums."""
    prefixes = {"role": "ROLE_", "finish_reason": "FINISH_REASON_"}
    words = {
        name: prefix + given[name].upper() for name, prefix in prefixes.items() if name in given
    }
    return ParseDict(given | words, conversation_pb2.Message())


def _read_stream(
    events: Any, until: dict[str, int], has_begun: Callable[[], None], result: Result
) -> None:
    result |= {"events": [], "started": [], "text": "", "indexes": [], "attempts": []}
    with closing(events):
        for event in events:
            came = _json(event)
            result["events"].append(came)
            if event.HasField("started"):
                result["started"].append(came["started"])
            if event.HasField("completed"):
                result["completed"] = came["completed"]
            if not event.HasField("index"):
                continue
            result["text"] += event.chunk.text
            result["indexes"].append(event.index)
            if event.attempt not in result["attempts"]:
                result["attempts"].append(event.attempt)
            has_begun()
            if len(result["indexes"]) == until.get("events"):
                return


def _read_rehearsal(events: Any, until: dict[str, int], result: Result) -> None:
    result |= {"events": [], "text": "", "tool_calls": []}
    with closing(events):
        for event in events:
            result["events"].append(_json(event))
            match event.WhichOneof("event"):
                case "started":
                    result["started"] = _json(event.started)
                    continue
                case "completed":
                    result["completed"] = _json(event.completed)
                    continue
                case "chunk":
                    result["text"] += event.chunk.text
                case "tool_call":
                    result["tool_calls"].append(_json(event.tool_call))
            if len(result["events"]) - 1 == until.get("events"):  # `started` does not count
                return


def _read_watch(
    updates: Any, until: dict[str, int], has_begun: Callable[[], None], result: Result
) -> None:
    [(kind, count)] = until.items()
    lists = {
        "message": "messages",
        "turn": "turns",
        "event": "events",
        "progress": "progress",
        "deleted": "deleted",
    }
    result |= {name: [] for name in lists.values()}
    with closing(updates):
        for update in updates:
            came = update.WhichOneof("update")
            result[lists[came]].append(_json(getattr(update, came)))
            if came == "progress":
                has_begun()
            if len(result[kind]) == count:
                return


def _read_turns(
    updates: Any, until: dict[str, int], has_begun: Callable[[], None], result: Result
) -> None:
    [(kind, count)] = until.items()
    result |= {name: [] for name in ("turns", "cursors", "users", "progress")}
    with closing(updates):
        for update in updates:
            if update.HasField("turn"):
                result["turns"].append(_json(update.turn))
                result["cursors"].append(update.cursor)
                result["users"].append(update.user)
            else:
                result["progress"].append(update.cursor)
                has_begun()
            if len(result[kind]) == count:
                return


def _read_export(parts: Any, result: Result) -> None:
    lists = {"conversation": "conversations", "message": "messages", "done": "done"}
    result |= {name: [] for name in (*lists.values(), "cursors", "conversation_ids")}
    for part in parts:
        came = part.WhichOneof("item")
        result[lists[came]].append(_json(getattr(part, came)))
        result["cursors"].append(part.cursor)
        result["conversation_ids"].append(part.conversation_id)


def _json(message: Message) -> Result:
    return MessageToDict(message, preserving_proto_field_name=True)


def _error(error: ParleyError) -> Result:
    return {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
        "violations": [{"field": v.field, "reason": v.reason} for v in error.violations],
        "retry_after_s": error.retry_after_s,
        "request_id": error.request_id,
    }
