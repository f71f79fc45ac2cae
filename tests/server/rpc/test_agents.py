"""ListAgents, and the agent of a conversation: given, changed, shown, kept."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from parley.v1 import conversation_service_pb2 as pb
from support.rosters import NAMES, a_named_agent, seat, started
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    a_token,
    an_id,
    info_of,
    metadata,
    refused,
)

UNKNOWN = ("INVALID_ARGUMENT", "AGENT_UNKNOWN")
OF_ITS_AGENT = FieldMask(paths=["agent"])


@pytest.fixture
async def several(start_service: StartService) -> Service:
    return await started(start_service)


async def listed(service: Service) -> list[pb.Agent]:
    found = await service.stub.ListAgents(
        pb.ListAgentsRequest(), timeout=20, metadata=metadata("ada")
    )
    return list(found.agents)


async def test_agents_are_listed_by_name_with_what_callers_may_know(service: Service) -> None:
    seat(
        service,
        a_named_agent("zoe", description="Answers questions about animals.", can_rehearse=False),
        a_named_agent("adam", description="Writes poems."),
        default="zoe",
    )

    expected = [
        pb.Agent(name="adam", description="Writes poems.", can_rehearse=True),
        pb.Agent(name="zoe", description="Answers questions about animals.", is_default=True),
    ]
    assert expected == await listed(service)


async def test_list_follows_the_roster(service: Service) -> None:
    assert [("echo", True)] == [(a.name, a.is_default) for a in await listed(service)]
    seat(service, a_named_agent("poet"))

    assert [("poet", True)] == [(a.name, a.is_default) for a in await listed(service)]


async def test_list_needs_the_scope_of_reading(service: Service) -> None:
    token = a_token(scope="parley.write")
    call = service.stub.ListAgents(
        pb.ListAgentsRequest(), timeout=20, metadata=(("authorization", f"Bearer {token}"),)
    )

    assert ("PERMISSION_DENIED", "SCOPE_MISSING") == await refused(call)


@WITH_AND_WITHOUT_ROW_SECURITY
async def test_agent_of_a_conversation_is_shown_by_all_that_show_conversations(
    start_service: StartService,
) -> None:
    """Fails without the column in any of the statements."""
    several = await started(start_service, trash_days=1)
    made = (await several.create(agent="poet", title="Verses")).conversation
    same = made.conversation_id
    found = [made.agent, (await several.conversation(same)).agent]
    found += [c.agent for c in (await several.conversations()).conversations]
    found += [
        part.conversation.agent async for part in several.export() if part.HasField("conversation")
    ]
    found.append((await several.update(same, title="Odes")).agent)
    forked = (await several.fork(same)).conversation
    found += [forked.agent, (await several.conversation(forked.conversation_id)).agent]
    await several.delete(same)
    found.append((await several.undelete(same)).agent)

    assert ["poet"] * 8 == found


async def test_agent_of_a_conversation_is_none_unless_it_is_given(several: Service) -> None:
    made = (await several.create()).conversation
    answer = await several.chat("hello")

    assert ("", "") == (made.agent, (await several.conversation(answer.conversation_id)).agent)


async def test_agent_is_changed_with_a_new_revision(several: Service) -> None:
    made = (await several.create(agent="poet")).conversation
    same = made.conversation_id

    changed = await several.update(same, agent="support", expected_revision=1)
    assert ("support", 2) == (changed.agent, changed.revision)
    assert "support" == (await several.update(same, title="Verses")).agent
    cleared = await several.update(same, update_mask=OF_ITS_AGENT)
    assert ("", 4) == (cleared.agent, cleared.revision)
    late = several.update(same, agent="poet", expected_revision=2)
    assert ("ABORTED", "REVISION_MISMATCH") == await refused(late)


async def test_change_of_the_agent_that_was_made_counts_as_made(several: Service) -> None:
    """Fails if the agent is not compared: then another change would count as this one."""
    same = (await several.create()).conversation.conversation_id
    await several.update(same, agent="poet", expected_revision=1)

    again = await several.update(same, agent="poet", expected_revision=1)
    assert ("poet", 2) == (again.agent, again.revision)
    other = several.update(same, agent="support", expected_revision=1)
    assert ("ABORTED", "REVISION_MISMATCH") == await refused(other)


async def test_creation_is_repeated_only_with_the_same_agent(several: Service) -> None:
    """Fails if the fingerprint leaves the agent out."""
    made = await several.create(request_id="c", agent="poet")

    again = await several.create(request_id="c", agent="poet")
    assert (made.conversation, True) == (again.conversation, again.replayed)
    for other in ({"agent": "support"}, {}):
        call = several.create(request_id="c", **other)
        assert ("ALREADY_EXISTS", "REQUEST_ID_REUSED") == await refused(call)


@pytest.mark.parametrize("name", ["nobody", "Poet", "poet "])
async def test_unknown_agent_is_refused_and_nothing_is_stored(several: Service, name: str) -> None:
    kept = (await several.create(agent="poet")).conversation

    assert UNKNOWN == await refused(several.create(agent=name, conversation_id=an_id()))
    assert UNKNOWN == await refused(several.update(kept.conversation_id, agent=name, title="New"))
    assert [kept] == list((await several.conversations()).conversations)


async def test_unknown_agent_is_named_with_what_else_is_wrong(several: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await several.create(agent="nobody", conversation_id="x")

    assert "INVALID_REQUEST" == info_of(caught.value).reason
    assert "agent: names no configured agent" in (caught.value.details() or "")
    assert "conversation_id: must be a UUID" in (caught.value.details() or "")


async def test_every_configured_agent_can_be_given(several: Service) -> None:
    given: list[Any] = [(await several.create(agent=name)).conversation.agent for name in NAMES]

    assert list(NAMES) == given
