"""Tool calls, however a provider numbers, names and cuts them."""

import json
import re
from typing import Any

import pytest

from parley_server.core.errors import AgentUnavailable
from support.wire_provider import DONE, STOP, answer_to, called, chunk, said

A, B = '{"city":"A"}', '{"city":"B"}'
ONE, TWO = ["sunny in A"], ["sunny in A", "sunny in B"]


def piece(arguments: object = None, name: object = "weather", **fields: object) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"type": "function", "function": function, **fields}


def numbered(*indexes: object, ids: tuple[object, ...] = ("i1", "i2")) -> str:
    """Two calls, each in two pieces: the second has no name."""
    body = ""
    for index, call_id, arguments in zip(indexes, ids, (A, B), strict=True):
        body += called(piece(arguments[:5], index=index, id=call_id))
        body += called(piece(arguments[5:], None, index=index, id=call_id))
    return body


CALLS = {
    "whole, in one event": (TWO, called(piece(A, index=0, id="1"), piece(B, index=1, id="2"))),
    "whole, without index": (TWO, called(piece(A, id="1")) + called(piece(B, id="2"))),
    "whole, without index and id": (TWO, called(piece(A)) + called(piece(B))),
    "whole, the same index, no id": (TWO, called(piece(A, index=0)) + called(piece(B, index=0))),
    "whole, the same index and id": (
        TWO,
        called(piece(A, index=0, id="1")) + called(piece(B, index=0, id="1")),
    ),
    "whole, empty ids": (
        TWO,
        called(piece(A, index=0, id="")) + called(piece(B, index=0, id="")),
    ),
    **{
        f"indexes {indexes}": (TWO, numbered(*indexes))
        for indexes in [
            (0, 1),
            (0, 0),
            (1, 2),
            (-1, -2),
            (7, 3),
            (10**20, 10**21),
            ("0", "1"),
            ("a", "b"),
            (0.0, 1.0),
            (None, None),
            ("", ""),
        ]
    },
    **{
        f"ids {ids}": (TWO, numbered(0, 1, ids=ids))
        for ids in [("", ""), (None, None), ("i", "i"), (1, 2), ("", "i"), ("i", None)]
    },
    "no index, no id": (TWO, numbered(None, None, ids=(None, None))),
    "an id in the first piece only": (
        TWO,
        called(piece(A[:5], index=0, id="1"))
        + called(piece(A[5:], None, index=0))
        + called(piece(B[:5], index=1, id="2"))
        + called(piece(B[5:], None, index=1)),
    ),
    "an id that changes": (
        ONE,
        called(piece("", index=0, id="1"))
        + called(piece(A[:5], None, index=0, id="2"))
        + called(piece(A[5:], None, index=0, id="3")),
    ),
    "an id and a name that come again": (
        ONE,
        called(piece(A[:5], id="1", index=0)) + called(piece(A[5:], id="2", index=0)),
    ),
    "an index that changes": (
        ONE,
        called(piece(A[:5], index=0, id="1")) + called(piece(A[5:], None, index=1, id="1")),
    ),
    "index and id in the first piece only": (
        TWO,
        called(piece(A[:5], index=0, id="1"))
        + called(piece(A[5:], None))
        + called(piece(B[:5], index=1, id="2"))
        + called(piece(B[5:], None)),
    ),
    "interleaved": (
        TWO,
        called(piece(A[:5], index=0, id="1"), piece(B[:5], index=1, id="2"))
        + called(piece(B[5:], None, index=1), piece(A[5:], None, index=0)),
    ),
    "interleaved, the same index": (
        TWO,
        called(piece(A[:5], index=0, id="1"), piece(B[:5], index=0, id="2"))
        + called(piece(B[5:], None, index=0, id="2"), piece(A[5:], None, index=0, id="1")),
    ),
    "interleaved, the same id": (
        TWO,
        called(piece(A[:5], index=0, id="1"), piece(B[:5], index=1, id="1"))
        + called(piece(B[5:], None, index=1, id="1"), piece(A[5:], None, index=0, id="1")),
    ),
    "names in each piece": (
        TWO,
        called(piece(A[:5], index=0), piece(B[:5], index=1))
        + called(piece(A[5:], index=0), piece(B[5:], index=1)),
    ),
    "a name that grows": (
        ONE,
        called(piece(None, "wea", index=0)) + called(piece(A, "weather", index=0)),
    ),
    "a name in pieces": (
        ONE,
        called(piece("", "wea", index=0)) + called(piece(A, "ther", index=0)),
    ),
    "a name behind its arguments": (
        ONE,
        called(piece(A, None, index=0, id="1")) + called(piece("", index=0, id="1")),
    ),
    "a call told again": (ONE, called(piece(A, index=0, id="1")) * 2),
    "a name told again at the end": (
        ONE,
        called(piece(A, index=0, id="1")) + called(piece("", index=0, id="1")),
    ),
    "arguments that stand for what comes": (
        ONE,
        called(piece("{}", index=0, id="1")) + called(piece(A, None, index=0, id="1")),
    ),
    "arguments that grow": (
        ONE,
        called(piece(A[:5], index=0, id="1")) + called(piece(A, index=0, id="1")),
    ),
    "arguments that are an object": (ONE, called(piece({"city": "A"}, index=0))),
    "arguments written twice": (ONE, called(piece(json.dumps(A), index=0))),
    "no function": (ONE, called({"name": "weather", "arguments": A})),
    "an old function call": (
        ONE,
        chunk({"function_call": {"name": "weather", "arguments": A[:5]}})
        + chunk({"function_call": {"arguments": A[5:]}}),
    ),
    "nonsense between": (ONE, called(None, 1, "x", piece(A, index=0)) + chunk({"tool_calls": {}})),  # type: ignore[arg-type]
    "a long id": (ONE, called(piece(A, id="x" * 100_000))),
    "an id of the word null": (
        TWO,
        called(piece(A, index=0, id="null")) + called(piece(B, index=0, id="null")),
    ),
    "the second call under the first one's index, its rest under its own": (
        TWO,
        called(piece(A[:5], index=0, id="1"))
        + called(piece(A[5:], None, index=0))
        + called(piece(B[:5], index=0, id="2"))
        + called(piece(B[5:], None, index=1)),
    ),
    "an id before its name": (
        ONE,
        called({"index": 0, "id": "1"}) + called(piece("", index=0)) + called(piece(A, None)),
    ),
    "a name with marks behind it": (ONE, called(piece(A, "weather<|channel|>commentary"))),
    "a name in its namespace": (ONE, called(piece(A, "functions.weather"))),
    "a name with its number": (ONE, called(piece(A, "default_api:weather:0"))),
    "a name written twice": (ONE, called(piece(A, "weatherweather"))),
    "arguments written again": (ONE, called(piece(A + A))),
    "arguments behind an empty object": (ONE, called(piece("{}" + A))),
    "an empty call behind it": (
        ONE,
        called(piece(A, index=0, id="1")) + called(piece("", "", index=1, id="")),
    ),
    "an empty old function call behind it": (
        ONE,
        called(piece(A, index=0, id="1")) + chunk({"function_call": {"name": "", "arguments": ""}}),
    ),
    "two tools without arguments": (
        ["noon", "sunny in A"],
        called(piece("", "now", index=0)) + called(piece(A, index=0)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", CALLS)
async def test_calls_are_told_apart(how: str) -> None:
    """Fails when the pieces go to the library as they are: for most of these."""
    expected, body = CALLS[how]
    told = await answer_to(body + chunk({}, "tool_calls") + DONE)

    assert expected == [call.result for call in told.calls]
    assert len(expected) == len({call.id for call in told.calls})
    assert all(0 < len(call.id) <= 8192 for call in told.calls)
    assert "fine" == told.text


@pytest.mark.parametrize("arguments", ["", None, "null", " ", "{}", {}, "[]"[:0]])
async def test_no_arguments_are_an_empty_object(arguments: object) -> None:
    told = await answer_to(called(piece(arguments, index=0, id="i")) + STOP)

    assert [("{}", "sunny in nowhere")] == [(c.arguments, c.result) for c in told.calls]


@pytest.mark.parametrize(
    "delta",
    [
        {"function_call": {"name": "", "arguments": ""}},
        {"function_call": {"name": None, "arguments": None}},
        {"tool_calls": [{"index": 0, "id": "", "function": {"name": "", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": "i", "function": {"name": "", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": None, "type": None, "function": None}]},
        {"tool_calls": [{}]},
    ],
)
async def test_calls_that_say_nothing_are_none(delta: dict[str, object]) -> None:
    """Fails when each call needs a name: a whole answer is lost for a field that was filled in."""
    told = await answer_to(said("ab") + chunk({"content": "c", **delta}, "stop") + DONE)

    assert ("abc", []) == (told.text, told.calls)


async def test_control_characters_in_arguments_are_part_of_their_strings() -> None:
    told = await answer_to(called(piece('{"city":"A\n\tB"}', index=0, id="i")) + STOP)

    assert [("sunny in A\n\tB", {"city": "A\n\tB"})] == [
        (call.result, json.loads(call.arguments)) for call in told.calls
    ]


@pytest.mark.parametrize(
    "call",
    [
        {"index": 0, "id": "i", "function": {"arguments": A}},
        {"index": 0, "id": "i", "function": [{"name": "weather", "arguments": A}]},
        {"index": 0, "id": "i", "type": "custom", "custom": {"name": "weather", "input": A}},
    ],
)
async def test_a_call_that_never_gets_a_name_fails_the_turn(call: dict[str, Any]) -> None:
    with pytest.raises(AgentUnavailable):
        await answer_to(called(call) + chunk({}, "tool_calls") + DONE)


async def test_arguments_that_are_json_go_on_as_they_were_written() -> None:
    written = '{\n  "city": "A",\n  "more": ' + "9" * 40 + "\n}"
    told = await answer_to(called(piece(written, index=0, id="i")) + STOP)

    assert [written] == [call.arguments for call in told.calls]


@pytest.mark.parametrize("name", ["<|channel|>", "get weather!", "wéather<|x|>", "a" * 300])
async def test_name_that_no_tool_has_goes_back_in_characters_that_all_take(name: str) -> None:
    """Fails when it goes back as it came: strict providers refuse the next request."""
    told = await answer_to(called(piece(A, name, index=0, id="i")) + STOP)

    assert "fine" == told.text
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", call.name) for call in told.calls)


async def test_calls_behind_and_before_text_leave_the_text_whole() -> None:
    body = said("Let me ", "look.") + called(piece(A, index=0)) + said(" And") + called(piece(B))
    told = await answer_to(body + STOP)

    assert (TWO, "Let me look. Andfine") == ([call.result for call in told.calls], told.text)


async def test_calls_of_an_answer_without_a_finish_reason_are_run() -> None:
    told = await answer_to(called(piece(A, index=0)) + DONE)

    assert ONE == [call.result for call in told.calls]


async def test_calls_of_a_filtered_answer_are_not_run() -> None:
    told = await answer_to(said("ab") + called(piece(A)) + chunk({}, "content_filter") + DONE)

    assert ([], "ab") == (told.calls, told.text)


async def test_calls_beyond_all_bounds_end_the_answer() -> None:
    endless = called(piece('{"city":"' + "a" * 1_000_000, index=0, id="i"))
    endless += called(piece("a" * 1_000_000, None, index=0)) * 5
    told = await answer_to(said("ab") + endless)

    assert told.finish is not None
    assert "LENGTH" == told.finish.reason.value
