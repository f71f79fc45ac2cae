"""AppendMessages: what is stored, once, and what it is refused for."""

import asyncio

import pytest

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from support.agents import Gate, ScriptedAgent
from support.services import (
    WITH_AND_WITHOUT_ROW_SECURITY,
    Service,
    StartService,
    an_id,
    gathered,
    info_of,
    refused,
)

pytestmark = WITH_AND_WITHOUT_ROW_SECURITY

USER, ASSISTANT, SYSTEM = (
    conversation_pb2.ROLE_USER,
    conversation_pb2.ROLE_ASSISTANT,
    conversation_pb2.ROLE_SYSTEM,
)


def said(
    role: conversation_pb2.Role.ValueType, content: str, **fields: object
) -> conversation_pb2.Message:
    return conversation_pb2.Message(role=role, content=content, **fields)  # type: ignore[arg-type]


async def test_messages_are_stored_one_behind_the_other(service: Service) -> None:
    first = await service.chat("Hi")
    added = await service.append(
        first.conversation_id, said(USER, "One"), said(ASSISTANT, "Two"), said(SYSTEM, "Three")
    )
    assert (3, 5, False) == (added.first_sequence, added.last_sequence, added.replayed)
    history = await service.history(first.conversation_id)
    assert ["Hi", "HI", "One", "Two", "Three"] == [m.content for m in history.messages]
    assert ["", "", ""] == [m.turn_id for m in history.messages[2:]]
    found = await service.conversation(first.conversation_id)
    assert (5, "Three", "Hi") == (found.last_sequence, found.preview, found.title)


async def test_the_same_request_adds_once(service: Service) -> None:
    conversation_id = an_id()
    ask = {"request_id": "r", "allow_missing": True}
    answers = await gathered(
        *(service.append(conversation_id, said(USER, "One"), **ask) for _ in range(4))
    )
    assert [1] * 4 == [a.first_sequence for a in answers]
    assert [False, True, True, True] == sorted(a.replayed for a in answers)
    assert 1 == (await service.conversation(conversation_id)).last_sequence
    assert ("ALREADY_EXISTS", "REQUEST_ID_REUSED") == await refused(
        service.append(conversation_id, said(USER, "Two"), **ask)
    )


async def test_fork_and_export(service: Service) -> None:
    first = await service.chat("Hi")
    forked = await service.fork(first.conversation_id)
    assert 2 == forked.conversation.last_sequence
    parts = [part async for part in service.export()]
    assert ["conversation", "message", "message"] * 2 + ["done"] == [
        p.WhichOneof("item") for p in parts
    ]
