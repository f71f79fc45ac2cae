"""Rules of reads: whatever is read is what the model holds."""

from collections.abc import Awaitable

from hypothesis import strategies as st
from hypothesis.stateful import rule

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from support.services import Service, refused
from support.state_machine.answers import in_order, standing_of
from support.state_machine.driver import Driver
from support.state_machine.turns import owners, workers
from support.state_machine.values import Conversation, Turn


class Reads(Driver):
    # Reads

    @rule(owner=owners, worker=workers, newest_first=st.booleans(), after=st.integers(0, 3))
    def read(self, owner: str, worker: int, newest_first: bool, after: int) -> None:
        self.world.do(self.read_all(self._named(owner), worker, newest_first, after))

    async def read_all(self, owner: str, worker: int, newest_first: bool, after: int) -> None:
        service = self.world.services[worker]
        mine = [c for c in self.conversations() if c.owner == owner]
        for conversation in mine:
            await self._is_hidden(service, conversation)
        there = [c for c in mine if not c.is_deleted]
        by_activity = sorted(there, key=lambda c: -c.activity)
        for labels in ({}, {"a": "1"}, {"a": "1", "b": "2"}):
            listed = await service.conversations(
                user=owner, labels=[f"{key}={value}" for key, value in labels.items()]
            )
            expected = [_listing(c) for c in by_activity if labels.items() <= c.labels.items()]
            assert expected == [_listing_of(c) for c in listed.conversations]
        for conversation in there:
            await self._is_shown_whole(service, conversation)
            page = await service.history(
                conversation.id,
                user=owner,
                order=pb.ORDER_NEWEST_FIRST if newest_first else pb.ORDER_OLDEST_FIRST,
                after_sequence=after,
            )
            said = [(s, *m) for s, m in enumerate(conversation.said, 1) if s > after]
            assert (said[::-1] if newest_first else said) == [
                (m.sequence, cpb.Role.Name(m.role).removeprefix("ROLE_"), m.content, m.turn_id)
                for m in page.messages
            ]
            assert conversation.last_sequence == page.last_sequence
            for message in page.messages:
                answered = self.model.answered_turns.get(message.turn_id)
                told = answered.told if answered and message.role == cpb.ROLE_ASSISTANT else []
                assert told == in_order(message.tool_calls)
                assert all(call.result for call in message.tool_calls), "a call without a result"
            for turn in conversation.all_turns:
                await self._is_turn(service, turn)
        used, rows = self.model.used[owner], await service.usage(user=owner)
        expected_sums = (used.turns, used.attempts, used.failed)
        sums = tuple(
            sum(getattr(row, name) for row in rows)
            for name in ("turns", "attempts", "failed_attempts")
        )
        assert expected_sums == sums, f"{sums} counted, not {expected_sums}"

    async def _is_turn(self, service: Service, turn: Turn) -> None:
        conversation = turn.conversation
        shown = await service.turn(
            user=conversation.owner, conversation_id=conversation.id, turn_id=turn.id
        )
        is_known = bool(turn.request_id)
        if is_known:
            same = await service.turn(user=conversation.owner, request_id=turn.request_id)
            assert shown == same
        expected = turn.standing
        assert expected == standing_of(shown)
        assert bool(expected[1]) == bool(shown.error_text)
        is_over = expected[0] not in ("QUEUED", "RUNNING", "WAITING")
        assert is_over == shown.HasField("end_time")
        waits = turn.state == "WAITING"
        pending = [asked.shown for asked in turn.pending] if waits else []
        assert (pending, waits) == (list(shown.pending_calls), shown.HasField("wait_end_time"))
        assert (
            turn.attempt,
            turn.request_id,
            turn.user_sequence,
            turn.response_sequence,
            turn.agent,
        ) == (
            shown.attempt,
            shown.request_id,
            shown.user_sequence,
            shown.response_sequence,
            shown.agent,
        )

    async def _is_hidden(self, service: Service, conversation: Conversation) -> None:
        """What another owner has is not there, nor what is deleted."""
        users = {next(o for o in self._owners() if o != conversation.owner)}
        if conversation.is_deleted:
            users.add(conversation.owner)
        for user in users:
            calls: list[Awaitable[object]] = [
                service.turn(conversation_id=conversation.id, turn_id=turn.id, user=user)
                for turn in conversation.turns[-1:]
            ]
            has_one_too = (user, conversation.id) in self.model.conversations
            if user == conversation.owner or not has_one_too:
                calls.append(service.history(conversation.id, user=user))
                calls.append(service.conversation(conversation.id, user=user))
            for call in calls:
                code, _ = await refused(call)
                assert "NOT_FOUND" == code

    async def _is_shown_whole(self, service: Service, conversation: Conversation) -> None:
        shown = await service.conversation(conversation.id, user=conversation.owner)
        assert _listing(conversation) == _listing_of(shown)
        assert conversation.instructions == shown.instructions


def _listing(conversation: Conversation) -> tuple[object, ...]:
    return (
        conversation.id,
        conversation.title,
        conversation.said[-1][1] if conversation.said else "",
        conversation.last_sequence,
        conversation.open_turn.id if conversation.open_turn and conversation.is_held else "",
        conversation.labels,
        conversation.agent,
        conversation.revision,
    )


def _listing_of(shown: cpb.Conversation) -> tuple[object, ...]:
    return (
        shown.conversation_id,
        shown.title,
        shown.preview,
        shown.last_sequence,
        shown.open_turn_id,
        dict(shown.labels),
        shown.agent,
        shown.revision,
    )
