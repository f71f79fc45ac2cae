"""Rules of histories: messages that are appended, conversations that are copied."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from parley.v1 import conversation_pb2 as cpb
from support.messages import assistant, system, user
from support.services import GONE, an_id, refused
from support.state_machine.driver import Driver
from support.state_machine.turns import indices, owners, workers
from support.state_machine.values import Conversation

KINDS = {"USER": user, "ASSISTANT": assistant, "SYSTEM": system}


class Histories(Driver):
    @rule(
        worker=workers,
        index=indices,
        roles=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3),
        expected=st.sampled_from([None, None, 0, 1]),
    )
    def append(self, worker: int, index: int, roles: list[str], expected: int | None) -> None:
        """Messages from elsewhere.

        Args:
            expected: from the conversation's last sequence.
        """
        known = self.conversations()
        if not known:
            return
        found = known[-1 - index % len(known)]
        texts = [(role, f"appended {next(self.messages)}") for role in roles]
        fields = {} if expected is None else {"expected_sequence": found.last_sequence + expected}

        async def append() -> None:
            called = self.world.services[worker].append(
                found.id, *(KINDS[role](text) for role, text in texts), user=found.owner, **fields
            )
            if found.is_deleted:
                assert GONE == await refused(called)
            elif expected:
                assert ("ABORTED", "SEQUENCE_MISMATCH") == await refused(called)
            elif found.is_held:
                assert ("ABORTED", "TURN_IN_PROGRESS") == await refused(called)
            else:
                added = await called
                first = found.last_sequence + 1
                self.model.appended(found, texts)
                assert (first, found.last_sequence) == (added.first_sequence, added.last_sequence)
                await self._goes_on(found)
            await self._is_quiet()

        self.world.do(append())

    @rule(owner=owners, worker=workers, index=indices, up_to=st.integers(0, 8))
    def fork(self, owner: str, worker: int, index: int, up_to: int) -> None:
        """A copy of a conversation, up to the end of a turn."""
        known = self.conversations()
        if not known:
            return
        source = known[-1 - index % len(known)]
        user = source.owner if index % 4 else self._named(owner)

        async def fork() -> None:
            called = self.world.services[worker].fork(
                source.id, user=user, new_conversation_id=an_id(), up_to_sequence=up_to
            )
            found = self.model.conversations.get((user, source.id))
            end = up_to or (found.last_sequence - found.is_held if found else 0)
            if found is None or found.is_deleted:
                assert GONE == await refused(called)
            elif end > found.last_sequence:
                assert ("FAILED_PRECONDITION", "SEQUENCE_NOT_REACHED") == await refused(called)
            elif end and not found.ends_turn(end):
                assert ("FAILED_PRECONDITION", "NOT_A_TURN_BOUNDARY") == await refused(called)
            else:
                self._is_fork(found, end, (await called).conversation)

        self.world.do(fork())

    def _is_fork(self, source: Conversation, end: int, shown: cpb.Conversation) -> None:
        copy = Conversation(
            source.owner,
            shown.conversation_id,
            said=source.said[:end],
            title=source.title,
            labels=dict(source.labels),
            instructions=source.instructions,
            agent=source.agent,
            activity=next(self.model.clock),
        )
        self.model.conversations[copy.owner, copy.id] = copy
        assert (source.id, end) == (
            shown.forked_from.conversation_id,
            shown.forked_from.last_sequence,
        )
        assert copy.last_sequence == shown.last_sequence
