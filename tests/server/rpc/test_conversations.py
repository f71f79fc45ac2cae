"""Conversations that are created, read, changed and listed by label."""

import asyncio
import datetime

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from support.agents import ScriptedAgent
from support.services import GONE, Service, StartService, an_id, gathered, refused
from support.waiting import WEATHER, AskingAgent, result


async def listed(service: Service, user: str = "ada", **fields: object) -> list[str]:
    page = await service.conversations(user=user, **fields)
    return [c.conversation_id for c in page.conversations]


async def test_created_conversation_is_as_it_was_asked_for(service: Service) -> None:
    identity = an_id()
    labels = {"team": "blue", "app/v1.2_x-y": ""}

    made = await service.create(
        conversation_id=identity, title="Plans", labels=labels, instructions="Be brief."
    )

    assert not made.replayed
    conversation = made.conversation
    assert identity == conversation.conversation_id
    assert ("Plans", "Be brief.", 1) == (
        conversation.title,
        conversation.instructions,
        conversation.revision,
    )
    assert labels == dict(conversation.labels)
    assert (0, "", "") == (
        conversation.last_sequence,
        conversation.preview,
        conversation.open_turn_id,
    )
    assert conversation == await service.conversation(identity)
    page = await service.conversations()
    conversation.instructions = ""
    assert [conversation] == list(page.conversations)


async def test_created_conversation_without_an_id_gets_one(service: Service) -> None:
    first, second = await service.create(), await service.create()

    assert first.conversation.conversation_id != second.conversation.conversation_id


async def test_create_again_with_its_request_id_returns_the_same_conversation(
    service: Service,
) -> None:
    request_id = an_id()
    first = await service.create(request_id=request_id, title="one", labels={"a": "b"})
    identity = first.conversation.conversation_id
    await service.chat(conversation_id=identity)

    again = await service.create(request_id=request_id, title="one", labels={"a": "b"})

    assert again.replayed
    assert (identity, 2) == (again.conversation.conversation_id, again.conversation.last_sequence)
    reused = ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert reused == await refused(service.create(request_id=request_id, title="two"))
    assert reused == await refused(
        service.create(request_id=request_id, title="one", conversation_id=an_id())
    )
    assert [identity] == await listed(service)


async def test_request_ids_of_turns_and_of_creations_are_apart(service: Service) -> None:
    request_id = an_id()
    made = await service.create(request_id=request_id)

    answered = await service.chat(request_id=request_id)

    assert made.conversation.conversation_id != answered.conversation_id


async def test_conversation_whose_id_is_taken_is_not_created(service: Service) -> None:
    identity = (await service.chat()).conversation_id
    taken = ("ALREADY_EXISTS", "CONVERSATION_EXISTS")
    request_id = an_id()

    assert taken == await refused(service.create(conversation_id=identity, title="mine"))
    assert taken == await refused(service.create(conversation_id=identity, request_id=request_id))

    assert "hello" == (await service.conversation(identity)).title
    # A creation that was refused has not used up its request id.
    assert not (await service.create(request_id=request_id)).replayed


async def test_creations_at_once_make_one_conversation(service: Service) -> None:
    request_id = an_id()

    made = await gathered(*(service.create(request_id=request_id) for _ in range(8)))

    assert 1 == len({m.conversation.conversation_id for m in made})
    assert [False] + [True] * 7 == sorted(m.replayed for m in made)


async def test_another_owner_sees_and_changes_nothing(service: Service) -> None:
    identity = (await service.create(labels={"a": "b"})).conversation.conversation_id

    assert GONE == await refused(service.conversation(identity, user="bob"))
    assert GONE == await refused(service.update(identity, user="bob", title="x"))
    assert GONE == await refused(service.delete(identity, user="bob"))
    assert GONE == await refused(service.undelete(identity, user="bob"))
    assert [] == await listed(service, "bob", labels=["a=b"])
    # Ids are each owner's own.
    assert not (await service.create(conversation_id=identity, user="bob")).replayed


async def test_title_of_an_empty_conversation_comes_from_its_first_message(
    service: Service,
) -> None:
    untitled = (await service.create()).conversation.conversation_id
    titled = (await service.create(title="Mine")).conversation.conversation_id
    for identity in (untitled, titled):
        await service.chat("first", conversation_id=identity)
        await service.chat("second", conversation_id=identity)

    assert "first" == (await service.conversation(untitled)).title
    assert "Mine" == (await service.conversation(titled)).title


async def test_agent_is_told_the_instructions_of_the_conversation(
    start_service: StartService,
) -> None:
    agent = ScriptedAgent()
    service = await start_service(agent, instructions="Answer in Latin.")
    identity = (await service.create(instructions="Be brief.")).conversation.conversation_id

    await service.chat(conversation_id=identity)
    await service.chat()
    await service.update(identity, instructions="Be long.")
    await service.chat(conversation_id=identity)
    await service.update(identity, update_mask=FieldMask(paths=["instructions"]))
    await service.chat(conversation_id=identity)

    assert [
        "Answer in Latin.\n\nBe brief.",
        "Answer in Latin.",
        "Answer in Latin.\n\nBe long.",
        "Answer in Latin.",
    ] == [run.instructions for run in agent.runs]


async def test_turn_that_has_waited_is_told_the_instructions_of_the_present(
    start_service: StartService,
) -> None:
    agent = AskingAgent()
    service = await start_service(agent)
    identity = (await service.create(instructions="Be brief.")).conversation.conversation_id
    waits = await service.chat(conversation_id=identity, request_id="r", tools=[WEATHER])

    await service.update(identity, instructions="Be long.")
    await service.resume(result(waits.pending_calls[0]), request_id="r")

    assert ["Be brief.", "Be long."] == [run.instructions for run in agent.runs]


async def test_update_changes_what_its_mask_names(service: Service) -> None:
    made = await service.create(title="t", labels={"a": "1", "b": "2"}, instructions="i")
    identity = made.conversation.conversation_id

    changed = await service.update(
        identity, title="new", instructions="unused", update_mask=FieldMask(paths=["title"])
    )
    assert ("new", "i", 2) == (changed.title, changed.instructions, changed.revision)
    assert {"a": "1", "b": "2"} == dict(changed.labels)

    changed = await service.update(identity, labels={"b": "3", "c": ""})
    assert ("new", 3) == (changed.title, changed.revision)
    assert {"b": "3", "c": ""} == dict(changed.labels)
    assert [identity] == await listed(service, labels=["b=3", "c="])
    assert [] == await listed(service, labels=["a=1"])
    assert [] == await listed(service, labels=["b=2"])

    cleared = await service.update(
        identity, update_mask=FieldMask(paths=["labels", "title", "instructions"])
    )
    assert ("", "", {}) == (cleared.title, cleared.instructions, dict(cleared.labels))
    assert [] == await listed(service, labels=["c="])
    assert cleared == await service.conversation(identity)
    assert made.conversation.update_time == cleared.update_time


async def test_update_with_another_revision_changes_nothing(service: Service) -> None:
    identity = (await service.create(title="t")).conversation.conversation_id
    await service.update(identity, title="mine", expected_revision=1)
    mismatch = ("ABORTED", "REVISION_MISMATCH")

    assert mismatch == await refused(service.update(identity, title="yours", expected_revision=1))
    assert mismatch == await refused(service.update(identity, title="mine", expected_revision=3))
    # The same change again is a try whose answer got lost.
    assert 2 == (await service.update(identity, title="mine", expected_revision=1)).revision
    assert ("mine", 2) == ((c := await service.conversation(identity)).title, c.revision)


async def test_updates_at_once_leave_labels_and_lists_agreed(service: Service) -> None:
    identity = (await service.create()).conversation.conversation_id
    changes = [{"k": str(n), f"k{n}": "x"} for n in range(6)]

    await asyncio.gather(
        *(service.update(identity, labels=labels) for labels in changes),
        *(service.chat(conversation_id=identity, on_busy=pb.ON_BUSY_WAIT) for _ in range(3)),
    )

    found = await service.conversation(identity)
    assert 7 == found.revision
    assert dict(found.labels) in changes
    wanted = [f"{key}={value}" for key, value in found.labels.items()]
    assert [identity] == await listed(service, labels=wanted)


async def test_turn_moves_a_conversation_to_the_front_of_its_labels_lists(
    service: Service,
) -> None:
    ids = [
        (await service.create(labels={"team": "blue"})).conversation.conversation_id
        for _ in range(3)
    ]
    assert ids[::-1] == await listed(service, labels=["team=blue"])

    await service.chat(conversation_id=ids[1])

    assert [ids[1], ids[2], ids[0]] == await listed(service, labels=["team=blue"])
    assert [ids[1], ids[2], ids[0]] == await listed(service)


async def test_list_shows_what_was_active_after_a_time(service: Service) -> None:
    first = (await service.create(labels={"a": "b"})).conversation
    second = (await service.create(labels={"a": "b"})).conversation.conversation_id

    for labels in ([], ["a=b"]):
        assert [second] == await listed(service, labels=labels, updated_after=first.update_time)
        early = Timestamp(seconds=first.update_time.seconds - 1)
        assert 2 == len(await listed(service, labels=labels, updated_after=early))
        assert [] == await listed(service, labels=labels, updated_after=Timestamp(seconds=2**33))


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x", "é=ü", "y" * 63]))


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(LABELS, max_size=8),
    LABELS,
    st.integers(1, 9),
    st.integers(0, 9),
)
async def test_pages_by_label_are_those_that_have_all_of_them(
    service: Service,
    all_labels: list[dict[str, str]],
    wanted: dict[str, str],
    size: int,
    moved: int,
) -> None:
    user = an_id()
    made = [(await service.create(user=user, labels=labels)).conversation for labels in all_labels]
    if made:
        chosen = made[moved % len(made)]
        await service.chat(user=user, conversation_id=chosen.conversation_id)
        made.append(made.pop(moved % len(made)))
    expected = [
        c.conversation_id for c in reversed(made) if wanted.items() <= dict(c.labels).items()
    ]

    seen: list[str] = []
    token = ""
    while True:
        page = await service.conversations(
            user=user,
            page_size=size,
            page_token=token,
            labels=[f"{key}={value}" for key, value in wanted.items()],
        )
        seen += [c.conversation_id for c in page.conversations]
        token = page.next_page_token
        if not token:
            break

    assert expected == seen


async def test_page_token_is_of_the_labels_it_was_made_for(service: Service) -> None:
    for _ in range(2):
        await service.create(labels={"a": "b", "c": "d"})
    token = (await service.conversations(labels=["a=b"], page_size=1)).next_page_token
    wrong = ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")

    assert wrong == await refused(service.conversations(page_token=token))
    assert wrong == await refused(service.conversations(page_token=token, labels=["c=d"]))
    now = Timestamp()
    now.FromDatetime(datetime.datetime.now(datetime.UTC))
    assert wrong == await refused(
        service.conversations(page_token=token, labels=["a=b"], updated_after=now)
    )
    assert 1 == len(await listed(service, labels=["a=b"], page_token=token))


BAD_LABELS = [
    {"": "x"},
    {"A": "x"},
    {"-a": "x"},
    {"a-": "x"},
    {"a" * 64: "x"},
    {"a b": "x"},
    {"a=b": "x"},
]
BAD_LABELS += [{"a": "x" * 64}, {"a": "é" * 32}, {"a": "x\n"}, {"a": "\0"}, {"a": "\x9f"}]
BAD_LABELS += [{f"k{n}": "" for n in range(17)}]
BAD_FIELDS: list[dict[str, object]] = [{"labels": labels} for labels in BAD_LABELS]
BAD_FIELDS += [{"title": "x" * 513}, {"title": "\0"}]
BAD_FIELDS += [{"instructions": "x" * 8193}, {"instructions": "a\0"}]


@pytest.mark.slow
@pytest.mark.parametrize("fields", BAD_FIELDS, ids=str)
async def test_bad_fields_are_refused_before_anything_is_stored(
    service: Service, fields: dict[str, object]
) -> None:
    bad = ("INVALID_ARGUMENT", "INVALID_REQUEST")
    made = (await service.create()).conversation

    assert bad == await refused(service.create(**fields))
    assert bad == await refused(service.update(made.conversation_id, **fields))

    assert made == await service.conversation(made.conversation_id)
    assert 1 == len(await listed(service))


async def test_largest_fields_are_taken_and_a_page_of_them_fits(service: Service) -> None:
    labels = {f"{n:02}".ljust(63, "k"): "v" * 63 for n in range(16)}
    text = {"title": "t" * 512, "instructions": "é" * 4096}

    made = (await service.create(labels=labels, **text)).conversation

    assert labels == dict(made.labels)
    page = pb.ListConversationsResponse(
        conversations=[cpb.Conversation(title="t" * 512, preview="é" * 200, labels=labels)] * 1000
    )
    assert page.ByteSize() < 4 * 1024 * 1024


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"conversation_id": "x"},
        {"title": "x", "conversation_id": ""},
        {},
        {"update_mask": FieldMask(paths=["preview"])},
        {"update_mask": FieldMask(paths=["title", "*"])},
        {"title": "x", "expected_revision": 0},
        {"title": "x", "expected_revision": -1},
    ],
    ids=str,
)
async def test_update_that_says_nothing_sensible_is_refused(
    service: Service, fields: dict[str, object]
) -> None:
    identity = (await service.create()).conversation.conversation_id
    fields = {"conversation_id": identity, **fields}

    assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == await refused(
        service.update(str(fields.pop("conversation_id")), **fields)
    )


@pytest.mark.parametrize(
    "labels", [["a"], ["=b"], ["A=b"], ["a=b", "a=c"], [f"k{n}=" for n in range(17)]], ids=str
)
async def test_bad_labels_to_list_by_are_refused(service: Service, labels: list[str]) -> None:
    assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == await refused(
        service.conversations(labels=labels)
    )


async def test_time_out_of_range_is_refused(service: Service) -> None:
    assert ("INVALID_ARGUMENT", "INVALID_REQUEST") == await refused(
        service.conversations(updated_after=Timestamp(seconds=2**40))
    )
