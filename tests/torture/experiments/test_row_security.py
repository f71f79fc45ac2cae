"""Experiment 19: workers whose statements have forgotten the owner, and owners with the same ids.

Each statement alone, with what it does where no policy is:
tests/server/storage/schema/test_row_security.py.
"""

import asyncio
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_service_pb2 as pb
from support.services import an_id, metadata
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.fleet import Fleet
from support.torture.load import reason_of

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]

EXPERIMENT = Experiment(
    number=19,
    done="the owner is taken out of every statement; two owners use the same ids at once",
    holds="each owner sees and changes its own rows only",
    protection="row security: Postgres holds each statement to its owner",
    removal="the same statements on tables without policies",
    short_s=3,
    long_s=30,
)
OWNERS = ("ada", "bob")
A_SECOND = 6
"""How many conversations each owner has for a second of the experiment."""
FORGETFUL = ("owners.predicates",)


async def talk(stub: Any, user: str, identity: str) -> list[str]:
    """Make turns in a conversation whose id another owner uses. Returns: what is wrong."""
    how: dict[str, Any] = {"timeout": 10, "metadata": metadata(user)}
    texts = [f"{user} says {n}" for n in range(2)]
    try:
        for number, text in enumerate(texts):
            chat = pb.ChatRequest(
                message=text,
                conversation_id=identity,
                allow_missing=True,
                request_id=f"{identity}-{number}",
                on_busy=pb.ON_BUSY_WAIT,
            )
            answer = await stub.Chat(chat, **how)
            if answer.response != text:
                return [f"leak: {user} is told {answer.response!r}"]
        history = await stub.GetHistory(pb.GetHistoryRequest(conversation_id=identity), **how)
    except grpc.aio.AioRpcError as error:
        return [f"disturbed: {user} is told {reason_of(error)}"]
    said = [message.content for message in history.messages]
    expected = [text for one in texts for text in (one, one)]
    return [] if said == expected else [f"leak: {user} reads {said}"]


async def listed(stub: Any, user: str, ids: list[str]) -> list[str]:
    """List an owner's conversations, and then delete one. Returns: what is wrong."""
    how: dict[str, Any] = {"timeout": 10, "metadata": metadata(user)}
    try:
        page = await stub.ListConversations(pb.ListConversationsRequest(page_size=1000), **how)
        found = sorted(one.conversation_id for one in page.conversations)
        if user == OWNERS[0]:
            request = pb.DeleteConversationRequest(conversation_id=ids[0])
            await stub.DeleteConversation(request, **how)
    except grpc.aio.AioRpcError as error:
        return [f"disturbed: {user} is told {reason_of(error)}"]
    return [] if found == sorted(ids) else [f"leak: {user} lists {len(found)} of {len(ids)}"]


@pytest.fixture
def attack(request: pytest.FixtureRequest) -> Any:
    async def attack(trial: Trial) -> None:
        url, settings = trial.database_url, dict[str, Any]()
        trial.is_compared = False
        if trial.is_protected:
            url, settings = request.getfixturevalue("walled_url"), {"row_security": True}
        ids = [an_id() for _ in range(int(trial.seconds * A_SECOND))]
        fleet = Fleet(url, trial.log, without=FORGETFUL, **settings)
        async with fleet.running(2):
            talks = (talk(fleet.any(), user, identity) for identity in ids for user in OWNERS)
            for found in await asyncio.gather(*talks):
                trial.problems += found
            for user in OWNERS:
                trial.problems += await listed(fleet.any(), user, ids)
            if trial.is_protected:  # what Ada has deleted is there for Bob
                trial.problems += await talk(fleet.any(), OWNERS[1], ids[0])
        trial.figures["conversations"] = str(len(OWNERS) * len(ids))

    return attack


async def test_owners_see_their_own_rows_whatever_statements_forget(lab: Lab, attack: Any) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_rows_of_another_owner_are_noticed(lab: Lab, attack: Any) -> None:
    await lab.notices(attack, without="row security", because="leak")
