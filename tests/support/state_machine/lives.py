"""Rules of conversations: created, changed, deleted, brought back, erased."""

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from support.services import GONE, Service, an_id, refused
from support.state_machine.driver import Driver
from support.state_machine.turns import indices, owners, workers
from support.state_machine.values import AGENTS, Call, Conversation, Creation, Refused, not_found
from support.state_machine.world import now_and_then

agents = st.sampled_from(["", *AGENTS, "poet"])
labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"))


class Lives(Driver):
    # Created

    @rule(
        owner=owners,
        worker=workers,
        where=st.sampled_from(["any", "named", "named", "taken"]),
        index=indices,
        is_named=st.booleans(),
        labels=labels,
        agent=agents,
    )
    def create(
        self,
        owner: str,
        worker: int,
        where: str,
        index: int,
        is_named: bool,
        labels: dict[str, str],
        agent: str,
    ) -> None:
        """An empty conversation, under an id of the caller's or of ours."""
        owner = self._named(owner)
        known = [c for c in self.conversations() if c.owner == owner]
        request = pb.CreateConversationRequest(labels=labels, agent=agent)
        if where != "any":
            request.conversation_id = an_id()
        if where == "taken" and known:
            request.conversation_id = known[index % len(known)].id
        if index % 2:
            request.title, request.instructions = f"title {index}", f"instructions {index}"
        if is_named:
            request.request_id = f"c{next(self.request_ids)}"
        self.world.do(self._create(self.world.services[worker], owner, request))

    @rule(
        worker=workers, index=indices, altered=st.sampled_from(["", "", "title", "labels", "agent"])
    )
    def create_again(self, worker: int, index: int, altered: str) -> None:
        """The same request id of CreateConversation once more."""
        known = list(self.model.creations.items())
        if not known:
            return
        (owner, _), creation = known[-1 - index % len(known)]
        request = pb.CreateConversationRequest()
        request.CopyFrom(creation.request)
        if altered == "title":
            request.title = "another"
        if altered == "labels":
            request.labels["c"] = "3"
        if altered == "agent":
            request.agent = "" if request.agent else "poet"
        self.world.do(self._create(self.world.services[worker], owner, request))

    async def _create(
        self, service: Service, owner: str, request: pb.CreateConversationRequest
    ) -> None:
        fields: dict[str, Any] = {d.name: value for d, value in request.ListFields()}
        called = service.create(user=owner, **fields)
        earlier = self.model.creations.get((owner, request.request_id))
        if earlier is not None:
            if earlier.conversation.is_deleted and earlier.request == request:
                assert GONE == await refused(called)
            elif earlier.request != request:
                reused = ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
                # What was asked for is forgotten with what was said, by a worker in its own time.
                allowed = (reused, GONE) if earlier.conversation.is_expired else (reused,)
                assert await refused(called) in allowed
            else:
                shown = await called
                assert (True, earlier.conversation.id) == (
                    shown.replayed,
                    shown.conversation.conversation_id,
                )
            return
        if (owner, request.conversation_id) in self.model.conversations:
            assert ("ALREADY_EXISTS", "CONVERSATION_EXISTS") == await refused(called)
            return
        shown = await called
        assert not shown.replayed
        made = Conversation(
            owner,
            shown.conversation.conversation_id,
            title=request.title,
            labels=dict(request.labels),
            instructions=request.instructions,
            agent=request.agent,
            activity=next(self.model.clock),
        )
        self.model.conversations[owner, made.id] = made
        if request.request_id:
            self.model.creations[owner, request.request_id] = Creation(request, made)
        self._is_it(made, shown.conversation)

    # Changed

    @rule(
        worker=workers,
        index=indices,
        what=st.sampled_from(["title", "labels", "instructions", "agent", "agent"]),
        labels=labels,
        agent=agents,
        expected=st.sampled_from([None, None, 0, 0, 1]),
    )
    def update(
        self,
        worker: int,
        index: int,
        what: str,
        labels: dict[str, str],
        agent: str,
        expected: int | None,
    ) -> None:
        """A change, beside whatever turn is open.

        Args:
            expected: from the revision that the conversation has.
        """
        known = self.conversations()
        if not known:
            return
        found = known[-1 - index % len(known)]
        value: Any = {"labels": labels, "agent": agent}.get(what, f"{what} {index}")
        fields: dict[str, Any] = {what: value, "update_mask": {"paths": [what]}}
        if expected is not None:
            fields["expected_revision"] = found.revision + expected

        async def change() -> None:
            called = self.world.services[worker].update(found.id, user=found.owner, **fields)
            if found.is_deleted:
                assert GONE == await refused(called)
                return
            if expected:
                assert ("ABORTED", "REVISION_MISMATCH") == await refused(called)
                return
            shown = await called
            setattr(found, what, value)
            found.revision += 1
            self._is_it(found, shown)

        self.world.do(change())

    # Deleted

    @rule(worker=workers, index=indices, allow_missing=st.booleans())
    def delete(self, worker: int, index: int, allow_missing: bool) -> None:
        """A conversation goes, whatever is under way in it."""
        known = self.conversations()
        if not known or index % 3 == 0:
            return
        found = known[-1 - index % len(known)]
        run = found.holder
        if run is not None and len(run.callers) > 1:
            return

        async def delete() -> None:
            called = self.world.services[worker].delete(
                found.id, user=found.owner, allow_missing=allow_missing
            )
            if found.is_deleted:
                if allow_missing:
                    await called
                else:
                    assert GONE == await refused(called)
                return
            await called
            await self._ends_all(found)
            await self._is_quiet()

        self.world.do(delete())

    async def _ends_all(self, conversation: Conversation) -> None:
        """A conversation was deleted: the agent is stopped, and whoever waits is told."""
        if conversation.is_deleted:
            return
        calls: list[Call] = conversation.calls
        if (run := conversation.holder) is not None:
            await self._is_stopped(run)
            calls = [*calls, *(c for c in run.callers if c not in calls)]
        self.model.deleted(conversation)
        conversation.following.clear()
        conversation.waiting.clear()
        for call in calls:
            gone = [Refused("NOT_FOUND", "TURN_NOT_FOUND")] if call.turn else []
            await self._ends(call, [not_found(conversation.id), *gone])

    @rule(worker=workers, index=indices)
    def undelete(self, worker: int, index: int) -> None:
        """A conversation comes back, or is there."""
        known = self.conversations()
        deleted = [c for c in known if c.is_deleted] if index % 4 else []
        if not known:
            return
        found = (deleted or known)[index % len(deleted or known)]

        async def undelete() -> None:
            called = self.world.services[worker].undelete(found.id, user=found.owner)
            if found.is_expired:
                assert GONE == await refused(called)
                return
            shown = await called
            found.is_deleted = False
            self._is_it(found, shown)

        self.world.do(undelete())

    # Erased

    @rule(owner=owners, worker=workers, index=indices)
    def erase(self, owner: str, worker: int, index: int) -> None:
        """Everything that an owner has goes for good, whatever is under way in it."""
        owner = self._named(owner)
        mine = [c for c in self.conversations() if c.owner == owner]
        runs = [c.holder for c in mine if c.holder is not None]
        if index % 5 or any(len(run.callers) > 1 for run in runs):
            return

        async def erase() -> None:
            request_id = f"e{next(self.request_ids)}"
            erased = await self.world.services[worker].erase(request_id, user=owner)
            for conversation in mine:
                await self._ends_all(conversation)
            pause = now_and_then()
            while erased.state != pb.ERASURE_STATE_DONE:
                await pause("the erasure goes on and on")
                erased = await self.world.services[worker].erase(request_id, user=owner)
            # What retention has deleted may be gone already, or may be counted here.
            least = _counted(c for c in mine if not c.is_expired)
            counts = erased.conversations, erased.messages, erased.turns
            most = _counted(mine)
            between = zip(least, counts, most, strict=True)
            is_right = all(low <= count <= high for low, count, high in between)
            assert is_right, f"{counts} erased, not {least} to {most}"
            self.model.erased(owner)
            await self._is_quiet()

        self.world.do(erase())

    def _is_it(self, conversation: Conversation, shown: cpb.Conversation) -> None:
        assert (
            conversation.id,
            conversation.title,
            conversation.labels,
            conversation.instructions,
            conversation.agent,
            conversation.revision,
        ) == (
            shown.conversation_id,
            shown.title,
            dict(shown.labels),
            shown.instructions,
            shown.agent,
            shown.revision,
        )


def _counted(conversations: Iterable[Conversation]) -> tuple[int, int, int]:
    """Return how many conversations, messages and turns these are."""
    of = list(conversations)
    return len(of), sum(c.last_sequence for c in of), sum(len(c.all_turns) for c in of)
