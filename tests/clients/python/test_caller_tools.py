"""What a function is as a tool: its name, its description, and the schema of its parameters."""

import enum
import functools
import json
from typing import Any, List, Literal  # noqa: UP035 - callers still write it

import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import ToolFailed, tool
from parley_client.caller_tools import MAX_BATCH_BYTES, Results, Toolbox, decided, failed, returned

CALL = parts.PendingCall(call_key="k", name="book", arguments='{"seats": 2}')


def book(
    city: str,
    seats: int = 1,
    *,
    price: float | None = None,
    names: list[str],
    tier: Literal["low", "high"] = "low",
    more: dict[str, Any],
    fast: bool = False,
    call_key: str,
) -> str:
    """Book seats.

    In a train.
    """
    return f"{city} {seats} {price} {names} {tier} {more} {fast} {call_key}"


def test_a_schema_is_derived_from_the_annotations() -> None:
    made = tool(book).definition
    schema = json.loads(made.parameters_schema)

    assert ("book", "Book seats.\n\nIn a train.") == (made.name, made.description)
    assert {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "seats": {"type": "integer"},
            "price": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            "names": {"type": "array", "items": {"type": "string"}},
            "tier": {"enum": ["low", "high"]},
            "more": {"type": "object"},
            "fast": {"type": "boolean"},
        },
        "required": ["city", "names", "more"],
        "additionalProperties": False,
    } == schema


def test_what_is_given_goes_before_what_is_derived() -> None:
    made = tool(book, name="reserve", description="Reserves.", parameters_schema="{}").definition
    assert parts.Tool(name="reserve", description="Reserves.", parameters_schema="{}") == made


@pytest.mark.parametrize(
    "function",
    [lambda city: city, lambda *cities: cities, lambda **options: options],
)
def test_a_parameter_without_a_schema_is_refused(function: Any) -> None:
    with pytest.raises(ValueError, match="give `tool` the parameters_schema"):
        tool(function)


def test_a_list_without_an_argument_is_one_of_anything() -> None:
    def book(names: List) -> None:  # type: ignore[type-arg]  # noqa: UP006 - that is the point
        """Book seats."""

    schema = json.loads(tool(book).definition.parameters_schema)
    assert {"names": {"type": "array"}} == schema["properties"]


class Tier(enum.Enum):
    LOW = 1


@pytest.mark.parametrize(
    "hint", ["Missing", Literal[Tier.LOW], [int]], ids=["unknown", "no JSON", "no type"]
)
def test_an_annotation_without_a_schema_is_refused(hint: Any) -> None:
    def book(tier: Any) -> None:
        """Book seats."""

    book.__annotations__["tier"] = hint
    with pytest.raises(ValueError, match="give `tool` the parameters_schema"):
        tool(book)


def test_a_partial_function_is_described_by_its_own_function() -> None:
    partial = functools.partial(book, "Rome")
    made = tool(partial, name="book", parameters_schema="{}").definition
    assert "Book seats.\n\nIn a train." == made.description
    with pytest.raises(ValueError, match="has no name: give `tool` one"):
        tool(partial, parameters_schema="{}")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("{", "The arguments are no valid JSON."),
        ("[1]", "The arguments do not fit the tool."),
        ('{"seats": 1, "call_key": "mine"}', "The arguments do not fit the tool."),
        ('{"seats": 1, "legs": 2}', "got an unexpected keyword argument 'legs'."),
        ("{}", "missing a required argument: 'seats'."),
    ],
)
def test_arguments_that_do_not_fit_are_told(arguments: str, text: str) -> None:
    def book(seats: int, call_key: str) -> str:
        return f"{seats} {call_key}"

    box = Toolbox([book])
    assert "2 k" == box.bound(CALL)()
    wrong = parts.PendingCall(call_key="k", name="book", arguments=arguments)
    with pytest.raises(ToolFailed, match=text.replace(".", r"\.")):
        box.bound(wrong)


@pytest.mark.parametrize(
    ("value", "text"),
    [("plain", "plain"), ("", ""), (None, "null"), ([1, "ü"], '[1, "ü"]'), (True, "true")],
)
def test_a_text_is_told_as_it_is_and_anything_else_as_json(value: Any, text: str) -> None:
    told = returned(CALL, value)
    assert ("result", text) == (told.WhichOneof("outcome"), told.result)


@pytest.mark.parametrize("value", ["\0", "\ud800", float, {1, 2}])
def test_what_cannot_be_told_is_an_error(value: Any) -> None:
    assert "error" == returned(CALL, value).WhichOneof("outcome")


def test_what_is_told_of_a_failure_can_be_sent() -> None:
    """Fails with the text as it is: half of a surrogate pair is no UTF-8."""
    assert "no ?" == failed(CALL, ToolFailed("no \ud800")).error


def test_results_are_given_as_they_fit_into_a_request() -> None:
    """A server takes 2 MiB; 64 results of 64 KiB are more."""
    calls = [parts.PendingCall(call_key=f"k{n}") for n in range(64)]
    answer = pb.ChatResponse(pending_calls=calls)
    results = Results()
    results.add(returned(call, "x" * 65_536) for call in calls)

    given: list[str] = []
    while answer.pending_calls:
        batch = results.of(answer)
        assert 0 < sum(one.ByteSize() for one in batch) <= MAX_BATCH_BYTES
        given += [one.call_key for one in batch]
        del answer.pending_calls[: len(batch)]
    assert [call.call_key for call in calls] == given


def test_an_approval_names_the_arguments_that_were_shown() -> None:
    assert '{"seats": 2}' == decided(CALL, True).approval.arguments
    assert ("denial", "too many") == (
        decided(CALL, "too many").WhichOneof("outcome"),
        decided(CALL, "too many").denial.reason,
    )
    assert "denial" == decided(CALL, False).WhichOneof("outcome")
