"""Rules of started turns: accepted, accepted again, cancelled before they begin."""

from hypothesis import strategies as st
from hypothesis.stateful import rule

from parley.v1 import conversation_service_pb2 as pb
from support.services import GONE, an_id, refused
from support.state_machine.answers import standing_of
from support.state_machine.driver import Driver
from support.state_machine.turns import agents, indices, owners, workers
from support.state_machine.values import Call, Turn


class Started(Driver):
    @rule(
        owner=owners,
        worker=workers,
        where=st.sampled_from(["new", "missing", "strange"]),
        expected=st.sampled_from([None, None, 0, 1]),
        has_request_id=st.booleans(),
        agent=agents,
    )
    def start_elsewhere(
        self,
        owner: str,
        worker: int,
        where: str,
        expected: int | None,
        has_request_id: bool,
        agent: str,
    ) -> None:
        """A started turn in a conversation that is not there."""
        request = pb.ChatRequest(
            conversation_id="" if where == "new" else an_id(),
            allow_missing=where == "missing",
            agent=agent,
        )
        self._start(self._named(owner), worker, request, expected, has_request_id)

    @rule(
        worker=workers,
        index=indices,
        expected=st.sampled_from([None, None, None, 0, 2]),
        has_request_id=st.booleans(),
        agent=agents,
    )
    def start_on(
        self, worker: int, index: int, expected: int | None, has_request_id: bool, agent: str
    ) -> None:
        """A started turn, mostly where another one runs.

        Args:
            expected: from the conversation's last sequence; 2: what it is when a turn has ended.
        """
        known = self.conversations()
        if not known:
            return
        busy = [c for c in known if c.is_held] if index % 4 else []
        waited_for = [c for c in busy if any(c.waiting.values())] if index % 2 else []
        chosen = waited_for or busy or known
        found = chosen[index % len(chosen)]
        if expected is not None:
            expected = found.last_sequence - found.is_held + expected
        request = pb.ChatRequest(conversation_id=found.id, agent=agent)
        self._start(found.owner, worker, request, expected, has_request_id)

    def _start(
        self,
        owner: str,
        worker: int,
        request: pb.ChatRequest,
        expected: int | None,
        has_request_id: bool,
    ) -> None:
        request.message = f"started {next(self.messages)}"
        if has_request_id:
            request.request_id = f"s{next(self.request_ids)}"
        if expected is not None:
            request.expected_sequence = expected
        self.world.do(self._accept(Call(owner, worker, request)))

    async def _accept(self, call: Call) -> None:
        service, request = self.world.services[call.worker], call.request
        fields = {descriptor.name: value for descriptor, value in request.ListFields()}
        called = service.start(user=call.owner, **fields)
        found = self.model.conversations.get((call.owner, request.conversation_id))
        is_missing = found is None and request.conversation_id and not request.allow_missing
        if is_missing or (found is not None and found.is_deleted):
            assert GONE == await refused(called)
            return
        shown = await called
        assert not shown.replayed
        turn = self.model.accepted(call, shown.turn.turn_id, shown.turn.conversation_id)
        if request.request_id:
            self.model.calls[call.owner, request.request_id] = call
        await self._begins(turn.conversation)
        await self._is_quiet()

    @rule(worker=workers, index=indices, is_altered=st.sampled_from([False] * 5 + [True]))
    def start_again(self, worker: int, index: int, is_altered: bool) -> None:
        """StartTurn with the request id of a turn that is there, of whichever call it was."""
        known = list(self.model.requests.items())
        failed = [(name, turn) for name, turn in known if turn.state == "FAILED" and turn.is_newest]
        if failed and index % 4:
            known = failed
        if not known:
            return
        (owner, request_id), turn = known[-1 - index % min(4, len(known))]
        conversation_id, message, agent = turn.sent
        request = pb.ChatRequest(
            conversation_id=conversation_id,
            message="another" if is_altered else message,
            agent=agent,
            request_id=request_id,
        )
        self.world.do(self._accept_again(owner, worker, turn, request))

    async def _accept_again(
        self, owner: str, worker: int, turn: Turn, request: pb.ChatRequest
    ) -> None:
        fields = {descriptor.name: value for descriptor, value in request.ListFields()}
        called = self.world.services[worker].start(user=owner, **fields)
        if refusal := self._refusal(turn, request):
            assert refusal == await refused(called)
            return
        shown = await called
        assert (True, turn.id) == (shown.replayed, shown.turn.turn_id)
        if turn.is_stopped_when_found:
            self.model.answered(turn, turn.kept, "CANCELLED")
            await self._goes_on(turn.conversation)
        elif turn.state == "FAILED" or turn.is_abandoned:
            await self._runs_by_itself(turn, lambda run: self.model.started_again(turn, run))
        else:
            assert turn.standing == standing_of(shown.turn)
        await self._is_quiet()

    def _refusal(self, turn: Turn, request: pb.ChatRequest) -> tuple[str, str] | None:
        if turn.conversation.is_deleted:
            return GONE
        if turn.message != request.message:
            return "ALREADY_EXISTS", "REQUEST_ID_REUSED"
        if turn.state != "FAILED" and not turn.is_abandoned:
            return None
        if not turn.has_begun:
            return "ABORTED", "SEQUENCE_MISMATCH"
        if turn.is_stopped_when_found:
            return None
        if not turn.is_newest:
            return "FAILED_PRECONDITION", "TURN_SUPERSEDED"
        return ("FAILED_PRECONDITION", "ATTEMPTS_EXHAUSTED") if turn.is_exhausted else None

    @rule(worker=workers, index=indices, by_request_id=st.booleans())
    def cancel_queued(self, worker: int, index: int, by_request_id: bool) -> None:
        """CancelTurn before a turn begins: it leaves nothing in the conversation."""
        queued = [turn for c in self.conversations() for turn in c.queue]
        if not queued:
            return
        turn = queued[index % len(queued)]
        conversation = turn.conversation
        name = {"conversation_id": conversation.id, "turn_id": turn.id}
        if by_request_id and turn.request_id:
            name = {"request_id": turn.request_id}

        async def cancel() -> None:
            shown = await self.world.services[worker].cancel(user=conversation.owner, **name)
            self.model.never_begins(turn, "CANCELLED")
            assert turn.standing == standing_of(shown)
            await self._goes_on(conversation)
            await self._is_quiet()

        self.world.do(cancel())
