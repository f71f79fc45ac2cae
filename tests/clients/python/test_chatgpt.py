"""What becomes of a ChatGPT export: which messages, and what is named as left out."""

import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.v1 import conversation_pb2 as parts
from parley_client.cli.chatgpt import MAX_TITLE_BYTES, Found, conversations_in
from parley_client.cli.json_lines import WrongFile
from support.chatgpt_exports import (
    AT,
    a_conversation,
    a_message,
    an_answer,
    of_all_kinds,
    text_of,
)

LIMIT = 262_144


def found_in(*conversations: dict[str, Any], limit: int = LIMIT) -> list[Found]:
    return list(conversations_in(io.BytesIO(text_of(*conversations)), limit))


def contents(found: Found) -> list[str]:
    return [message.content for message in found.messages]


def test_what_has_text_becomes_a_message_and_the_rest_is_counted() -> None:
    [found] = found_in(of_all_kinds())

    assert [
        (parts.ROLE_SYSTEM, "Be kind."),
        (parts.ROLE_USER, "What is this?"),
        (parts.ROLE_ASSISTANT, "A cat."),
        (parts.ROLE_USER, "Spoken."),
        (parts.ROLE_ASSISTANT, "One.\nTwo."),
        (parts.ROLE_USER, "A \ufffd and a \ufffd."),
        (parts.ROLE_ASSISTANT, "print(1)"),
    ] == [(message.role, message.content) for message in found.messages]
    assert {
        "audio_asset_pointer": 1,
        "call of python": 1,
        "character that cannot be stored": 2,
        "hidden message": 1,
        "image_asset_pointer": 2,
        "message of another branch": 2,
        "reasoning_recap": 1,
        "tether_browsing_display": 1,
        "tether_quote": 1,
        "thoughts": 1,
        "tool browser": 1,
        "tool python": 1,
        "user_editable_context": 1,
    } == dict(found.left_out)
    assert "Cats and dogs \u202eGODS\u202c" == found.conversation.title


def test_an_answer_keeps_its_model_and_why_it_ended() -> None:
    cut = a_message("Cut", role="assistant", finish_details={"type": "max_tokens"})
    [found] = found_in(a_conversation(a_message(), an_answer(), cut))

    assert [
        ("", parts.FINISH_REASON_UNSPECIFIED),
        ("gpt-4o", parts.FINISH_REASON_STOP),
        ("", parts.FINISH_REASON_LENGTH),
    ] == [(message.model, message.finish_reason) for message in found.messages]


def test_a_message_without_a_time_has_the_one_before_or_its_conversations() -> None:
    times = [None, AT, None, AT + 1.5, float(2**40)]
    [found] = found_in(a_conversation(*(a_message(at=at) for at in times)))

    seconds = [message.create_time.ToMicroseconds() for message in found.messages]
    first, second = round((AT - 60) * 1e6), round(AT * 1e6)
    assert [first, second, second, second + 1_500_000, second + 1_500_000] == seconds


def test_a_conversation_without_times_has_none() -> None:
    [found] = found_in(a_conversation(a_message(at=None), create_time=None))
    assert [False] == [message.HasField("create_time") for message in found.messages]


@pytest.mark.parametrize("current", [None, "gone", 7], ids=str)
def test_without_a_current_node_the_newest_end_is_taken(current: Any) -> None:
    given = a_conversation(a_message("one"), an_answer("two"), current_node=current)
    assert ["one", "two"] == contents(found_in(given)[0])


def test_a_circle_of_messages_ends() -> None:
    circle = a_conversation(a_message("one"), an_answer("two"))
    circle["mapping"]["root"]["parent"] = "node-2"
    assert ["one", "two"] == contents(found_in(circle)[0])


def test_a_title_has_one_line_and_as_many_bytes_as_may_be() -> None:
    [long, none] = found_in(a_conversation(title="ä" * 300), a_conversation(title=None))

    assert "ä" * (MAX_TITLE_BYTES // 2) == long.conversation.title
    assert {"end of a long title": 1} == dict(long.left_out)
    assert "" == none.conversation.title


def test_what_is_longer_than_the_limit_is_named_and_not_cut() -> None:
    texts = ["a" * 100, "ä" * 51, "b" * 101]
    given = a_conversation(*map(a_message, texts), an_answer("c" * (LIMIT + 1)))
    [found] = found_in(given, limit=100)

    assert texts[:1] == contents(found)
    assert {
        "message longer than 100 bytes": 2,
        "message longer than 262,144 bytes": 1,
    } == dict(found.left_out)


def test_ids_depend_on_the_source_alone() -> None:
    one, other = a_conversation(), a_conversation(identity="another")
    unnamed = a_conversation(a_message(at=1.0), identity="")
    ids = [each.conversation.conversation_id for each in found_in(one, other, unnamed)]

    assert 3 == len(set(ids))
    assert ids == [e.conversation.conversation_id for e in found_in(one, other, unnamed)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not a JSON array"),
        (b"{}", "not a JSON array"),
        (b"[", "cut off"),
        (b'[{"title": "a"}', "cut off"),
        (b'[{"title": "a', "cut off"),
        (b'[{"title": oops}]', "not JSON"),
        (b"[1]", "conversation 1 is not a JSON object"),
        (b'[{"title": "\xff"}]', "not UTF-8"),
        pytest.param(b"[" * 200_000, "too deep", id="deep"),
    ],
    ids=str,
)
def test_a_wrong_file_is_refused_with_what_is_wrong(text: bytes, why: str) -> None:
    with pytest.raises(WrongFile, match=why):
        list(conversations_in(io.BytesIO(text), LIMIT))


def test_a_mistake_is_found_before_the_rest_is_read() -> None:
    file = io.BytesIO(b'[{"title": oops}' + b" " * 50_000_000)
    with pytest.raises(WrongFile):
        list(conversations_in(file, LIMIT))
    assert file.tell() < 10_000_000


@pytest.mark.slow
def test_memory_is_bounded_by_the_longest_conversation() -> None:
    """Fails if the file, or what was found in it, is kept: that is 120 MB."""
    one = text_of(a_conversation(*(a_message("a" * 100_000) for _ in range(20))))[1:-1]
    file = io.BytesIO(b"[" + b",\n".join([one] * 60) + b"]")
    tracemalloc.start()
    for found in conversations_in(file, LIMIT):
        assert 20 == len(found.messages)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40_000_000


def test_odd_values_are_made_to_fit() -> None:
    """Each has ended the whole import, or had the server refuse the conversation."""
    odd = an_answer("one", at=10**400) | {"metadata": {"model_slug": "\0\ud83d" + "ä" * 200}}
    strange = a_conversation(
        odd,
        a_message(content={"content_type": "text", "parts": "two"}),
        a_message(content={"content_type": "text", "parts": 7}),
        a_message(role="tool", name="\ud83d"),
        identity="\ud83d",
    )
    strange["mapping"]["root"]["parent"] = []
    [found] = found_in(strange)

    assert ["one", "two"] == contents(found)
    assert "\ufffd\ufffd" + "ä" * 125 == found.messages[0].model
    assert {"tool \ufffd": 1} == dict(found.left_out)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["mapping", "message", "author", "content", "parts", "parent", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(node=JUNK, title=JUNK, moment=JUNK)
def test_no_conversation_is_too_strange(node: Any, title: Any, moment: Any) -> None:
    """Whatever a field holds, the rest is imported."""
    strange = a_conversation(a_message("one"), title=title, create_time=moment)
    strange["mapping"]["strange"] = node
    for name in ("author", "content", "create_time", "metadata", "recipient"):
        message = a_message("two") | {name: node}
        strange["mapping"][f"strange {name}"] = {"message": message, "parent": "node-1"}
        strange["current_node"] = f"strange {name}"
        text = json.dumps([strange]).encode()
        [found] = conversations_in(io.BytesIO(text), LIMIT)
        assert "one" == contents(found)[0]
