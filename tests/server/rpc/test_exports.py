"""ExportConversations: everything once, from any place on."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.conversations import export
from parley_server.core.model import AgentEvent, AgentRun, Finish, FinishReason, ToolCall
from support.agents import ScriptedAgent
from support.messages import user
from support.services import Service, StartService, a_token, an_id, refused
from support.streams import Stream, rest_of


async def parts_of(stream: Stream) -> list[pb.ExportConversationsResponse]:
    return [part async for part in stream]


async def some_conversations(service: Service) -> list[str]:
    """Five: two with turns, one empty, one with appended messages, one of a single character."""
    ids = []
    for length in (2, 1):
        first = await service.chat("Hi")
        for _ in range(length - 1):
            await service.chat("More", conversation_id=first.conversation_id)
        ids.append(first.conversation_id)
    ids.append((await service.create(instructions="Be brief.")).conversation.conversation_id)
    for messages in ([user(str(n)) for n in range(7)], [user("x")]):
        conversation_id = an_id()
        await service.append(conversation_id, *messages, allow_missing=True)
        ids.append(conversation_id)
    return sorted(ids)


async def test_export_has_everything_of_its_owner_in_order(service: Service) -> None:
    ids = await some_conversations(service)
    await service.chat("Not mine", user="bob")
    deleted = await service.chat("Gone")
    await service.delete(deleted.conversation_id)

    parts = await parts_of(service.export())

    expected: list[Any] = []
    for conversation_id in ids:
        expected.append(await service.conversation(conversation_id))
        expected += (await service.history(conversation_id)).messages
    found = [getattr(part, part.WhichOneof("item") or "") for part in parts]
    assert [*expected, pb.ExportDone()] == found
    assert "Be brief." in [getattr(item, "instructions", "") for item in found]
    of = [part.conversation_id for part in parts]
    assert sorted(of[:-1]) == of[:-1]
    assert ("", "done") == (of[-1], parts[-1].WhichOneof("item"))


@pytest.mark.parametrize("page", [1, 2, 500])
async def test_export_goes_on_from_any_part(
    service: Service, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Whatever the size of pages: what was cut off is what comes, and the beginning is not."""
    monkeypatch.setattr(export, "PAGE_MESSAGES", page)
    monkeypatch.setattr(export, "PAGE_CONVERSATIONS", page)
    await some_conversations(service)
    whole = await parts_of(service.export())

    for number, part in enumerate(whole[:-1], start=1):
        assert whole[number:] == await parts_of(service.export(cursor=part.cursor))
    end = await parts_of(service.export(cursor=whole[-1].cursor))
    assert whole[-1:] == end


async def test_export_goes_on_with_what_came_later(service: Service) -> None:
    conversation_id = an_id()
    await service.append(conversation_id, user("One"), allow_missing=True)
    done = (await parts_of(service.export()))[-1]
    await service.append(conversation_id, user("Two"))

    later = await parts_of(service.export(cursor=done.cursor))
    assert ["Two", ""] == [part.message.content for part in later]


async def test_export_is_appended_again_as_it_was(service: Service) -> None:
    """Byte for byte: fails when a turn's id, a time or a tool call is changed on the way."""
    ids = await some_conversations(service)
    for part in await parts_of(service.export()):
        if part.HasField("message"):
            await service.append(part.conversation_id, part.message, user="bob", allow_missing=True)

    for conversation_id in ids:
        if (await service.conversation(conversation_id)).last_sequence:
            original = await service.history(conversation_id)
            copy = await service.history(conversation_id, user="bob")
            assert original.messages == copy.messages


async def test_answer_whose_calls_are_named_alike_is_appended_again(
    start_service: StartService,
) -> None:
    """Some providers begin with the same name in every step. Fails when it has to be unique."""

    async def look_twice(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        yield ToolCall("call_0", "look", "{}", "seen", is_error=False, step=1)
        yield ToolCall("call_0", "look", "{}", "seen", is_error=False, step=2)
        yield Finish(FinishReason.STOP, "scripted-1")

    service = await start_service(ScriptedAgent(look_twice))
    said = await service.chat()
    history = await service.history(said.conversation_id)
    await service.append(said.conversation_id, *history.messages, user="bob", allow_missing=True)
    copy = await service.history(said.conversation_id, user="bob")
    assert 2 == len(copy.messages[1].tool_calls)
    assert history.messages == copy.messages


async def test_export_of_nothing_is_done(service: Service) -> None:
    (done,) = await parts_of(service.export())
    assert ("done", "") == (done.WhichOneof("item"), done.cursor)


async def test_conversation_that_is_deleted_meanwhile_ends(service: Service) -> None:
    ids = await some_conversations(service)
    parts = await parts_of(service.export())
    midst = next(p for p in parts if p.HasField("message") and p.conversation_id == ids[1])
    await service.delete(ids[1])

    rest = await parts_of(service.export(cursor=midst.cursor))
    assert set(ids[2:]) == {part.conversation_id for part in rest[:-1]}


async def test_cursor_belongs_to_its_owner(service: Service) -> None:
    await some_conversations(service)
    cursor = (await parts_of(service.export()))[0].cursor
    wrong = ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")
    assert wrong == await refused(parts_of(service.export(user="bob", cursor=cursor)))
    altered = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    for text in (altered, cursor[:-1], "x", "é"):
        assert wrong == await refused(parts_of(service.export(cursor=text)))
    page = await service.conversations(page_size=1)
    assert wrong == await refused(parts_of(service.export(cursor=page.next_page_token)))


async def test_export_needs_the_scope_to_read(service: Service) -> None:
    token = a_token(scope="parley.write")
    call = service.stub.ExportConversations(
        pb.ExportConversationsRequest(), metadata=(("authorization", f"Bearer {token}"),)
    )
    assert ("PERMISSION_DENIED", "SCOPE_MISSING") == await refused(parts_of(call))


async def test_export_ends_at_its_time_limit(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some_conversations(service)
    monkeypatch.setattr(export, "WATCH_S", 0.0)
    assert ("UNAVAILABLE", "WATCH_EXPIRED") == await refused(parts_of(service.export()))


async def test_export_ends_with_its_worker(start_service: StartService) -> None:
    service = await start_service()
    conversation_id = an_id()
    for _ in range(40):  # more than gRPC holds for a caller who does not read
        await service.append(conversation_id, *[user("x" * 200_000)] * 5, allow_missing=True)
    stream = service.export()
    await stream.read()
    service.worker.server._core.exports.drain()  # noqa: SLF001 - the rest of a drain cuts the call

    assert ("UNAVAILABLE", "WORKER_DRAINED") == await refused(rest_of(stream))


async def test_exports_take_the_place_of_watches(start_service: StartService) -> None:
    """Fails when they count as reads: one owner's exports could take all of those."""
    service = await start_service(max_watches=1)
    conversation_id = (await service.chat()).conversation_id
    watch = service.watch(conversation_id)
    await watch.read()

    assert ("RESOURCE_EXHAUSTED", "OVERLOADED") == await refused(parts_of(service.export()))
    watch.cancel()
    while service.worker.admission.watches.in_use:
        await asyncio.sleep(0.01)
    assert 4 == len(await parts_of(service.export()))
