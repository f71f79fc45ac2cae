"""Thoughts between tags are no part of an answer; text that only looks like one stays as it is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.agents.boundary.thinking import DEFAULT_TAGS, MAX_HELD_CHARS, Piece, TaggedText
from parley_server.core.model import FinishReason
from support.wire_provider import DONE, STOP, answer_to, called, chunk, said

THINK = "<think>hm</think>"

ANSWERS = [
    ("Hello", f"{THINK}Hello"),
    ("Hello", f"{THINK}\n\nHello"),
    ("Hello", f"{THINK}\r\n \r\nHello"),
    (" Hello", f"{THINK} Hello"),
    ("  code\n", f"{THINK}\n\n  code\n"),
    ("Hello", f"\n {THINK}\n\nHello"),
    ("Hello", f"{THINK}\n<think>again</think>\nHello"),
    ("Hello", "<think></think>Hello"),
    ("Hello", "<think>\n</think>\n\nHello"),
    ("Hello", "<thinking>a <think> b</thinking>Hello"),
    ("Hello", "[THINK]a[/THINK]Hello"),
    ("Hello </think> there", f"{THINK}Hello </think> there"),
    (f"Hello {THINK} there", f"Hello {THINK} there"),
    (f"Hello\n{THINK}", f"{THINK}Hello\n{THINK}"),
    ("<thin", "<thin"),
    ("<thinker>a</thinker>", "<thinker>a</thinker>"),
    ("<think", "<think"),
    ("<think> is a tag.", "<think> is a tag."),
    ("\n<think> is a tag.", "\n<think> is a tag."),
    ("`<think>`", "`<think>`"),
    ("</think>Hello", "</think>Hello"),
    ("< think>a</ think>", "< think>a</ think>"),
    ("\n\nHello\n", "\n\nHello\n"),
    ("", THINK),
    ("", f"{THINK}\n\n"),
    ("", ""),
    ("\n\n", "\n\n"),
]


def cut(text: str, *places: int) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(edges)]


def read(pieces: list[str], *, is_done: bool = True) -> tuple[str, str]:
    """Return text and thoughts."""
    tagged = TaggedText(DEFAULT_TAGS)
    told: list[Piece] = []
    for piece in pieces:
        told += tagged.feed(piece)
    told += tagged.end(is_done=is_done)
    return tuple(  # type: ignore[return-value]
        "".join(content for kind, content in told if kind == wanted)
        for wanted in ("text", "thought")
    )


@pytest.mark.parametrize(("expected", "text"), ANSWERS)
async def test_thoughts_at_the_beginning_are_left_out_however_the_text_is_cut(
    expected: str, text: str
) -> None:
    """Fails when the library parses the tags: it knows them only as pieces of their own."""
    for pieces in ([text], list(text), cut(text, 7, 9)):
        told = await answer_to(said(*pieces) + chunk({}) + STOP)

        assert expected == told.text


@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 60)))
def test_text_is_the_same_wherever_it_is_cut(answer: tuple[str, str], places: list[int]) -> None:
    expected, text = answer

    assert expected == read(cut(text, *places))[0]


@given(st.text(), st.lists(st.integers(0, 60)))
def test_text_without_a_tag_is_never_changed(text: str, places: list[int]) -> None:
    if not any(opening in text for opening, _ in DEFAULT_TAGS):
        assert (text, "") == read(cut(text, *places))


@given(
    st.sampled_from(DEFAULT_TAGS),
    st.text(),
    st.text("ab <>/\n").filter(lambda text: text.lstrip()[:1] not in ("", "<", "[")),
    st.lists(st.integers(0, 60)),
)
def test_thoughts_and_text_are_told_apart(
    tags: tuple[str, str], thoughts: str, text: str, places: list[int]
) -> None:
    opening, closing = tags
    if closing in thoughts + closing[:-1]:
        return
    told, thought = read(cut(opening + thoughts + closing + "\n\n" + text, *places))

    assert (text.lstrip(), thoughts) == (told.lstrip(), thought)


@given(st.text(), st.lists(st.integers(0, 60)))
def test_a_block_that_is_cut_is_thoughts(thoughts: str, places: list[int]) -> None:
    if "</think>" not in thoughts:
        assert ("", thoughts) == read(cut("<think>" + thoughts, *places), is_done=False)


def test_a_block_that_is_longer_than_what_is_held_is_thoughts() -> None:
    long = "a" * (MAX_HELD_CHARS + 1)

    assert ("Hello", long + "b") == read(["<think>", long, "b", "</think>", "Hello"])
    assert ("", long) == read(["<think>", long])


async def test_thoughts_that_are_cut_are_no_answer() -> None:
    told = await answer_to(said("<think>hm") + chunk({}, "length") + DONE)

    assert ("", FinishReason.LENGTH) == (told.text, told.finish and told.finish.reason)


async def test_thoughts_before_a_tool_call_leave_nothing_behind() -> None:
    call = {"index": 0, "id": "i", "function": {"name": "weather", "arguments": '{"city": "A"}'}}
    told = await answer_to(said(THINK, "\n\n") + called(call) + STOP)

    assert ("fine", ["sunny in A"]) == (told.text, [call.result for call in told.calls])


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_thoughts_in_a_field_are_no_part_of_an_answer(field: str) -> None:
    body = chunk({field: "hm"}) + chunk({field: None, "content": "\n\nHel"}) + said("lo")
    told = await answer_to(body + STOP)

    assert "\n\nHello" == told.text


async def test_thoughts_among_the_parts_of_a_content_are_no_part_of_an_answer() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Hello"},
    ]

    assert "Hello" == (await answer_to(chunk({"content": parts}) + STOP)).text
