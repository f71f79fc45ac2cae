"""Experiment 22: an owner is erased and old conversations go, under load, workers killed.

Ada is erased while she talks; of Cy's conversations half are too old; Bob and the owners of the
load are not concerned.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import grpc
import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import Owner
from support.many_conversations import store_conversations
from support.owned_rows import rows_of, run
from support.services import a_token, an_id, metadata
from support.torture.experiments import Experiment, Lab, Trial, of_a_removal
from support.torture.fleet import Fleet
from support.torture.load import reason_of

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

EXPERIMENT = Experiment(
    number=22,
    done="an owner is erased and retention runs while turns run, workers are killed (-9) meanwhile",
    holds="nothing is left of the owner but the receipt, nothing of another owner is touched",
    protection="an erasure hides conversations from every statement before it removes them",
    removal="an erasure that removes what it has not hidden",
    short_s=6,
    long_s=120,
)
ADA, BOB, CY = (Owner.of("", name).id for name in ("ada", "bob", "cy"))
CONVERSATIONS, TURNS = 200, 4
TALKERS = 12
ERASING_S = 60
PASSING = {"UNAVAILABLE", "STORE_UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "LEASE_LOST"}
OLD = """
UPDATE conversation SET create_time = create_time - interval '2 days'
WHERE owner_id = %s AND id IN (
    SELECT id FROM conversation WHERE owner_id = %s ORDER BY id LIMIT %s
) RETURNING id::text
"""


async def ada_talks(fleet: Fleet, ends: Counter[str]) -> None:
    """Make turns in a conversation until it is not there any more."""
    identity, how = an_id(), metadata("ada")
    is_created = False
    while not is_created:
        with suppress(grpc.aio.AioRpcError):
            request = pb.CreateConversationRequest(conversation_id=identity, request_id=identity)
            await fleet.any().CreateConversation(request, timeout=10, metadata=how)
            is_created = True
    while True:
        chat = pb.ChatRequest(message="hello", conversation_id=identity, request_id=an_id())
        try:
            await fleet.any().Chat(chat, timeout=10, metadata=how)
            await fleet.any().StartTurn(
                pb.StartTurnRequest(
                    chat=pb.ChatRequest(
                        message="hello", conversation_id=identity, request_id=an_id()
                    )
                ),
                timeout=10,
                metadata=how,
            )
            ends["OK"] += 1
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error)
            ends[reason] += 1
            if reason == "CONVERSATION_NOT_FOUND":
                return
            if reason in PASSING:
                await asyncio.sleep(0.05)


async def erased(fleet: Fleet, request_id: str) -> pb.EraseOwnerResponse:
    """Ask for an erasure until it is done."""
    token = a_token("ada", scope="parley.erase")
    how = (("authorization", f"Bearer {token}"),)
    async with asyncio.timeout(ERASING_S):
        while True:
            with suppress(grpc.aio.AioRpcError):
                request = pb.EraseOwnerRequest(request_id=request_id)
                receipt: pb.EraseOwnerResponse = await fleet.any().EraseOwner(
                    request, timeout=10, metadata=how
                )
                if receipt.state == pb.ERASURE_STATE_DONE:
                    return receipt
            await asyncio.sleep(0.05)


async def erase_while_workers_are_killed(trial: Trial, fleet: Fleet, number: int) -> None:
    """Have Ada talk, and erase her."""
    ends: Counter[str] = Counter()
    talking = [asyncio.create_task(ada_talks(fleet, ends)) for _ in range(TALKERS)]
    try:
        async with asyncio.timeout(ERASING_S):
            while ends["OK"] < TALKERS:
                await asyncio.sleep(0.02)
        trial.log.note("erasure")
        erasing = asyncio.create_task(erased(fleet, f"erase-{number}"))
        await asyncio.sleep(0.05)  # in the midst
        await fleet.replace_one()
        receipt = await erasing
        trial.expect(receipt.conversations >= TALKERS, "idle: there was nothing to erase")
        await asyncio.wait(talking, timeout=20)
        trial.expect(all(task.done() for task in talking), f"stuck: Ada is told {ends}")
    finally:
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


async def attack(trial: Trial) -> None:
    url = trial.database_url
    for owner in (ADA, BOB, CY):
        store_conversations(url, owner, CONVERSATIONS, TURNS)
    old = {row[0] for row in run(url, OLD, CY, CY, CONVERSATIONS // 2)}
    run(url, "UPDATE owner SET look_time = 'epoch'")
    before = rows_of(url, BOB)
    without = () if trial.is_protected else (trial.without,)
    rounds = max(1, int(trial.seconds / 6))
    async with (
        trial.fleet(without=without, retention_age_days=1) as fleet,
        trial.load(fleet.any, callers=6),
    ):
        for number in range(rounds):
            await erase_while_workers_are_killed(trial, fleet, number)
        async with asyncio.timeout(ERASING_S):
            while trial.is_protected and old & live_of(url, CY):  # else they are never hidden
                await asyncio.sleep(0.1)
    trial.figures["erasures"] = str(rounds)
    left = rows_of(url, ADA)
    trial.expect(left == {"erasure": rounds}, f"left: of the erased owner there is {left}")
    # Bob is looked at by retention, which takes note of that in a row that he has already.
    after = rows_of(url, BOB)
    trial.expect(before == after, f"touched: Bob had {before} and has {after}")
    young = live_of(url, CY)
    trial.expect(len(young) == CONVERSATIONS - len(old), f"touched: Cy has {len(young)}")
    said = run(
        url,
        "SELECT count(*) FROM message JOIN conversation ON id = conversation_id"
        " AND conversation.owner_id = message.owner_id"
        " WHERE message.owner_id = %s AND delete_time IS NULL",
        CY,
    )
    trial.expect([(2 * TURNS * len(young),)] == said, f"touched: of Cy's messages are {said}")


def live_of(url: str, owner: Any) -> set[str]:
    """Return the ids of an owner's conversations that are there."""
    found = run(
        url, "SELECT id::text FROM conversation WHERE owner_id = %s AND delete_time IS NULL", owner
    )
    return {row[0] for row in found}


async def test_nothing_is_left_of_an_erased_owner_and_others_have_all(lab: Lab) -> None:
    await lab.holds(attack)


@of_a_removal
async def test_what_is_left_of_an_owner_that_was_not_hidden_is_noticed(lab: Lab) -> None:
    because = "left|integrity: an event without its turn"
    await lab.notices(attack, without="owners.hiding", because=because)
