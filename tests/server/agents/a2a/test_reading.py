"""Whatever a remote agent sends, it is an answer or out of the protocol."""

import uuid

import pytest
from a2a.types import a2a_pb2 as a2a
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_server.agents.a2a.failures import OutOfProtocol
from parley_server.agents.a2a.reading import Reader
from parley_server.agents.a2a.texts import Texts, Told
from support.a2a_scripted import text_parts

IDS = st.sampled_from(["", "t1", "t2", "x" * 300])
CONTEXTS = st.sampled_from(["", "c1", "c1", "c1", "c2"])
STATES = st.integers(0, 9)
TEXTS = st.text(max_size=5)
CHUNKS = st.text("xyz", min_size=1, max_size=4)

values = st.recursive(
    st.one_of(
        st.floats().map(lambda number: Value(number_value=number)),
        st.text(max_size=3).map(lambda text: Value(string_value=text)),
        st.just(Value()),
    ),
    lambda inner: st.dictionaries(st.sampled_from(["a", "input_tokens"]), inner, max_size=2).map(
        lambda fields: Value(struct_value=Struct(fields=fields))
    ),
    max_leaves=4,
)
metadata = st.dictionaries(
    st.sampled_from(["parley.usage", "parley.model", "parley.finish_reason", "x"]), values
).map(lambda fields: Struct(fields=fields))
parts = st.lists(
    st.one_of(
        TEXTS.map(lambda text: a2a.Part(text=text)),
        values.map(lambda value: a2a.Part(data=value)),
        st.builds(a2a.Part, raw=st.binary(max_size=3), filename=TEXTS),
        st.just(a2a.Part()),
    ),
    max_size=3,
)
messages = st.builds(
    a2a.Message,
    role=st.integers(0, 3),
    task_id=IDS,
    context_id=CONTEXTS,
    parts=parts,
    metadata=metadata,
)
statuses = st.builds(a2a.TaskStatus, state=STATES, message=messages)
artifacts = st.builds(a2a.Artifact, artifact_id=st.sampled_from(["", "a", "b"]), parts=parts)
events = st.one_of(
    messages.map(lambda message: a2a.StreamResponse(message=message)),
    st.builds(
        a2a.Task,
        id=IDS,
        context_id=CONTEXTS,
        status=statuses,
        artifacts=st.lists(artifacts, max_size=2),
        metadata=metadata,
    ).map(lambda task: a2a.StreamResponse(task=task)),
    st.builds(
        a2a.TaskStatusUpdateEvent,
        task_id=IDS,
        context_id=CONTEXTS,
        status=statuses,
        metadata=metadata,
    ).map(lambda update: a2a.StreamResponse(status_update=update)),
    st.builds(
        a2a.TaskArtifactUpdateEvent,
        task_id=IDS,
        context_id=CONTEXTS,
        artifact=artifacts,
        append=st.booleans(),
        last_chunk=st.booleans(),
    ).map(lambda update: a2a.StreamResponse(artifact_update=update)),
    st.just(a2a.StreamResponse()),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(events, max_size=8), st.sampled_from(["", "t1"]))
def test_any_events_are_an_answer_or_out_of_the_protocol(
    said: list[a2a.StreamResponse], task_id: str
) -> None:
    reader = Reader("c1", task_id)
    told = []
    try:
        for event in said:
            told += list(reader.read(event))
            if reader.ending is not None:
                break
    except OutOfProtocol as rule:
        assert str(rule)
    assert all(isinstance(text, str) for text in told)
    assert reader.usage is None or all(type(count) is int for count in reader.usage)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), CHUNKS)), st.data())
def test_chunks_in_any_order_make_each_artifact_whole(
    chunks: list[tuple[str, str]], data: st.DataObject
) -> None:
    """As they come, and all at once, the same is told."""
    texts, told = Texts(), list[str]()
    whole: dict[str, str] = {}
    for name, chunk in chunks:
        take = texts.append if name in whole else texts.begin
        told += take(name, text_parts(chunk), is_last=False)
        whole[name] = whole.get(name, "") + chunk
        if data.draw(st.booleans()):
            told += texts.snapshot(name, text_parts(whole[name]))
    told += texts.rest()

    assert "\n\n".join(whole.values()) == "".join(told)
    assert {name: Told.of(text) for name, text in whole.items()} == texts.told_so_far


def test_artifacts_of_earlier_turns_are_not_told_again() -> None:
    first = Texts()
    told = [*first.begin("a", text_parts("One"), is_last=False), *first.rest()]
    second = Texts(first.told_so_far)
    again = [*second.snapshot("a", text_parts("One", " more")), *second.rest()]
    third = Texts(second.told_so_far)
    at_last = [*third.snapshot("a", text_parts("One more", ".")), *third.rest()]

    assert (["One"], [" more"], ["."]) == (told, again, at_last)
    assert 8 == second.told_so_far["a"].chars


@pytest.mark.parametrize("text", ["Yes", "World", "World, and more of it"])
@pytest.mark.parametrize("is_known", [True, False], ids=["whole", "continued"])
def test_an_artifact_with_another_text_than_an_earlier_turns_is_told_whole(
    text: str, is_known: bool
) -> None:
    """Fails if as much of it is taken for told: the answer would lack its beginning."""
    first = Texts() if is_known else Texts({"a": Told.of("Hello")})
    take = first.begin if is_known else first.append
    list(take("a", text_parts("Hello" if is_known else "!"), is_last=False))
    second = Texts(first.told_so_far)

    assert [text] == [*second.snapshot("a", text_parts(text)), *second.rest()]
    assert Told.of(text) == second.told_so_far["a"]


def test_an_artifact_that_begins_again_in_a_later_turn_is_counted_from_there() -> None:
    """Fails if its length counts what was told of the one before: a later snapshot loses text."""
    texts = Texts({"a": Told.of("Hello"), "b": Told.of("Hello")})
    told = [*texts.begin("a", text_parts("World!"), is_last=True)]
    told += texts.append("b", text_parts(" more"), is_last=False)
    told += texts.begin("b", text_parts("Hello", " more"), is_last=False)

    assert ["World!", "\n\n more"] == told
    assert [6, 10] == [texts.told_so_far[name].chars for name in "ab"]


def test_a_task_goes_on_only_as_itself() -> None:
    reader = Reader(str(uuid.uuid4()), "t1")
    other = a2a.StreamResponse(task=a2a.Task(id="t2", status=a2a.TaskStatus(state=3)))
    try:
        list(reader.read(other))
    except OutOfProtocol:
        return
    raise AssertionError("it took another task's answer")
