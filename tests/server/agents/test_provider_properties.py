"""Rules of the boundary that hold for every stream: cuts, keep-alives and numbers say nothing."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from parley_server.agents.boundary.chat import ChatReader
from parley_server.agents.boundary.request import Request
from parley_server.agents.boundary.sse import Events
from parley_server.agents.boundary.thinking import DEFAULT_TAGS
from support.wire_provider import DONE, STOP, called, chunk, said

Answer: TypeAlias = tuple[str, list[tuple[str, str]], str, object]

TOOLS = json.dumps({"tools": [{"function": {"name": name}} for name in ("weather", "now")]})


def read(pieces: Sequence[bytes]) -> Answer:
    """Return what the library is given: text, calls, finish reason, usage."""
    events, reader = Events(), ChatReader(Request(TOOLS.encode), DEFAULT_TAGS)
    out: list[bytes] = []

    def take(found: Any) -> None:
        for event in found:
            if not reader.is_over:
                out.extend(reader.feed(event))

    for piece in pieces:
        take(events.feed(piece))
    take(events.end())
    out.extend(reader.end())
    return summary(out)


def summary(out: list[bytes]) -> Answer:
    assert b"data: [DONE]\n\n" == out[-1]
    chunks = [json.loads(data.removeprefix(b"data: ")) for data in out[:-1]]
    choices = [choice for each in chunks for choice in each["choices"]]
    deltas = [choice["delta"] for choice in choices]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert list(range(len(calls))) == [call["index"] for call in calls]
    assert len(calls) == len({call["id"] for call in calls})
    functions = [call["function"] for call in calls]
    reasons = [choice["finish_reason"] for choice in choices]
    assert [None] * (len(reasons) - 1) == reasons[:-1], "one finish reason, at the end"
    usages = [each["usage"] for each in chunks if "usage" in each]
    assert 2 > len(usages)
    return (
        "".join(delta.get("content", "") for delta in deltas),
        [(function["name"], function["arguments"]) for function in functions],
        reasons[-1],
        usages,
    )


def used(count: int) -> str:
    return chunk({}, None, usage={"prompt_tokens": 3, "completion_tokens": count})


def a_call(arguments: str, name: str | None = "weather", **fields: object) -> dict[str, object]:
    return {"function": {"name": name, "arguments": arguments}, **fields}


STREAMS = [
    said("Hé", "llo 😀", "\r\n") + used(2) + STOP,
    said("<think>hm", "</think>\n\nHello") + used(1) + used(2) + STOP,
    said("a") + called(a_call('{"city":"Ä"}', index=0, id="i")) + chunk({}, "tool_calls") + DONE,
    chunk({"refusal": "No"}) + STOP,
    said("a") + chunk({}, "length") + DONE,
    json.dumps({"choices": [{"message": {"content": "Hello"}}]}, indent=1),
]
QUIET = [":", ": ping", "data:", "id: 1", "retry: 9", "", "data: null", "data: ping", "event: x"]
QUIET += ["event: ping\ndata: {}", "nonsense"]
KEEP_ALIVES = st.lists(st.sampled_from(QUIET)).map(
    lambda kept: "".join(f"{line}\n\n" for line in kept)
)


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 2000)))
def test_an_answer_is_the_same_wherever_its_bytes_are_cut(stream: str, places: list[int]) -> None:
    data = stream.encode()
    edges = sorted({0, len(data), *(place % len(data) for place in places)})
    pieces = [data[a:b] for a, b in pairwise(edges)]

    assert read([data]) == read(pieces) == read([bytes([byte]) for byte in data])


@given(st.sampled_from(STREAMS[:-1]), st.sampled_from(["\n", "\r", "\r\n"]), st.data())
def test_an_answer_is_the_same_with_keep_alives_anywhere(
    stream: str, end: str, data: st.DataObject
) -> None:
    events = stream.split("\n\n")
    kept = [data.draw(KEEP_ALIVES) + event + "\n\n" for event in events[:-1]]
    body = "".join([*kept, data.draw(KEEP_ALIVES)]).replace("\n", end)

    assert read([stream.encode()]) == read([body.encode()])


def same(_: int) -> object:
    return 0


INDEXES: list[Callable[[int], object]] = [
    lambda number: number,
    lambda number: number + 1,
    lambda number: -number,
    lambda number: 10**18 * number,
    lambda number: f"n{number}",
    lambda number: number / 2,
]
ANY_INDEX: list[Callable[[int], object]] = [*INDEXES, same, lambda _: None, lambda _: ""]
IDS: list[Callable[[int], object]] = [lambda number: f"i{number}", lambda number: number]
ANY_ID: list[Callable[[int], object]] = [*IDS, same, lambda _: None, lambda _: ""]
CITIES = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5, unique=True)
CUTS = st.lists(st.integers(1, 30), max_size=4)


def cut(text: str, places: Sequence[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % len(text) for place in places)})
    return [text[a:b] for a, b in pairwise(edges)]


def pieces_of(
    number: int,
    arguments: Sequence[str],
    index: object,
    call_id: object,
    is_named: bool,
    once: bool,
) -> list[dict[str, object]]:
    """Cut one call into pieces; the first has everything."""
    first = a_call(arguments[0], index=index, id=call_id)
    name = "weather" if is_named else None
    more = {} if once else {"index": index, "id": call_id}
    return [first, *(a_call(part, name, **more) for part in arguments[1:])]


@settings(max_examples=300, deadline=None)
@given(
    CITIES,
    CUTS,
    st.sampled_from(ANY_INDEX),
    st.sampled_from(ANY_ID),
    st.booleans(),
    st.booleans(),
)
def test_calls_are_told_apart_by_any_numbers_or_none(
    cities: list[str],
    places: list[int],
    index: Callable[[int], object],
    call_id: Callable[[int], object],
    is_named: bool,
    once: bool,
) -> None:
    """One after the other: what is whole needs no number."""
    wanted = [json.dumps({"city": city}) for city in cities]
    stream = "".join(
        called(piece)
        for number, text in enumerate(wanted)
        for piece in pieces_of(
            number, cut(text, places), index(number), call_id(number), is_named, once
        )
    )

    assert [("weather", text) for text in wanted] == read([(stream + STOP).encode()])[1]


@settings(max_examples=300, deadline=None)
@given(
    CITIES,
    CUTS,
    st.one_of(
        st.tuples(st.sampled_from(INDEXES), st.sampled_from(ANY_ID)),
        st.tuples(st.sampled_from(ANY_INDEX), st.sampled_from(IDS)),
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_calls_that_are_interleaved_are_told_apart_by_either_number(
    cities: list[str],
    places: list[int],
    numbers: tuple[Callable[[int], object], Callable[[int], object]],
    is_named: bool,
    random: Any,
) -> None:
    """Each call begins in order; what follows comes in any order of the calls."""
    wanted = [json.dumps({"city": city}) for city in cities]
    index, call_id = numbers
    calls = [
        pieces_of(n, cut(text, places), index(n), call_id(n), is_named, False)
        for n, text in enumerate(wanted)
    ]
    stream = "".join(called(call.pop(0)) for call in calls)
    while any(calls):
        stream += called(random.choice([call for call in calls if call]).pop(0))

    assert [("weather", text) for text in wanted] == read([(stream + STOP).encode()])[1]


@given(st.lists(st.integers(0, 10**9), min_size=1), st.booleans())
def test_usage_is_the_greatest_that_was_told(counts: list[int], is_falling: bool) -> None:
    totals = sorted(counts, reverse=is_falling)
    stream = said("a") + "".join(used(count) for count in totals) + STOP
    most = max(totals)

    expected = {"prompt_tokens": 3, "completion_tokens": most, "total_tokens": 3 + most}
    assert [expected] == read([stream.encode()])[3]
