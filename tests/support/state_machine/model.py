"""What a caller may see of the service: the tables of the turn machine, kept in memory."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import WaitEnd
from support.state_machine.values import (
    AGENT_ERRORS,
    BEGINNING,
    Asked,
    Call,
    Conversation,
    Creation,
    End,
    Follows,
    Outcome,
    Refused,
    Replayed,
    Run,
    Starts,
    Turn,
    Used,
    Waits,
    not_found,
)
from support.waiting import calls_of


class Model:
    """What was said and done so far, in one example."""

    def __init__(self) -> None:
        self.conversations: dict[tuple[str, str], Conversation] = {}
        self.requests: dict[tuple[str, str], Turn] = {}
        self.calls: dict[tuple[str, str], Call] = {}
        """The first call under each request id."""
        self.runs: list[Run] = []
        """Those that stand at their gate, overtaken ones included."""
        self.creations: dict[tuple[str, str], Creation] = {}
        """By the owner and the request id of CreateConversation."""
        self.used: dict[str, Used] = defaultdict(Used)
        """By owner."""
        self.answered_turns: dict[str, Turn] = {}
        """By id. What they told is in forks as well."""
        self.clock = itertools.count(1)

    def turn_of(self, call: Call) -> Turn | None:
        """Return the turn that a call names, or whose request id it has."""
        request_id = call.request.request_id
        named = self.requests.get((call.owner, request_id)) if request_id else None
        return call.turn or named

    def outcome(self, call: Call) -> Outcome:
        """Return what becomes of a call now: the design's first two tables, in its order."""
        request = call.request
        turn = self.turn_of(call)
        if turn is not None:
            return self._of_resume(call, turn) if call.turn else self._of_known(call, turn)
        conversation = self.conversations.get((call.owner, request.conversation_id.lower()))
        is_missing = conversation is None and request.conversation_id and not request.allow_missing
        if is_missing or (conversation is not None and conversation.is_deleted):
            return not_found(request.conversation_id.lower())
        last = conversation.last_sequence if conversation else 0
        if call.expected_sequence not in (None, last):
            return Refused("ABORTED", "SEQUENCE_MISMATCH", (("last_sequence", str(last)),))
        if conversation is not None and conversation.is_busy:
            if request.on_busy == pb.ON_BUSY_WAIT:
                return Waits()
            # Only for a moment, in which no call is looked at, nothing but a queue makes it busy.
            busy = conversation.open_turn or conversation.queue[0]
            held = (("conversation_id", conversation.id), ("turn_id", busy.id))
            return Refused("ABORTED", "TURN_IN_PROGRESS", held)
        return Starts(None)

    def _of_known(self, call: Call, turn: Turn) -> Outcome:
        if turn.conversation.is_deleted:
            return not_found(turn.conversation.id)
        if turn.sent != call.sent:
            named = (("request_id", turn.request_id),)
            return Refused("ALREADY_EXISTS", "REQUEST_ID_REUSED", named)
        return self._goes_on(call, turn)

    def _of_resume(self, call: Call, turn: Turn) -> Outcome:
        """Return what becomes of a call of ResumeTurn: the table of decision 0031."""
        if turn.conversation.is_deleted:
            return Refused("NOT_FOUND", "TURN_NOT_FOUND")
        asked = {one.call.call_key: one for one in turn.asked}
        for given in call.results:
            known = asked.get(given.call_key)
            if known is not None and known.given not in (None, given):
                return Refused("ALREADY_EXISTS", "RESULT_ALREADY_GIVEN")
        new = self.new_results(call, turn)
        is_over = turn.is_answered or turn.is_to_stop
        if new and (is_over or any(given.call_key not in asked for given in new)):
            return Refused("FAILED_PRECONDITION", "CALL_NOT_PENDING")
        if turn.state == "WAITING":
            is_last = new and len(new) == len(turn.pending)
            return Starts(turn) if is_last else Replayed(turn)
        return self._goes_on(call, turn)

    @staticmethod
    def new_results(call: Call, turn: Turn) -> list[pb.CallResult]:
        """Return what a call gives that was not given before."""
        given = {one.call.call_key for one in turn.asked if one.given is not None}
        return [result for result in call.results if result.call_key not in given]

    def gives(self, call: Call, turn: Turn) -> None:
        """Write down what a call gives to a turn that waits."""
        results = {given.call_key: given for given in call.results}
        for asked in turn.pending:
            asked.given = results.get(asked.call.call_key)

    def _goes_on(self, call: Call, turn: Turn) -> Outcome:
        if turn.state == "QUEUED":
            return Follows()
        if not turn.has_begun:
            if turn.state == "FAILED":
                return Refused("ABORTED", "SEQUENCE_MISMATCH")
            return Refused("FAILED_PRECONDITION", "TURN_SUPERSEDED", (("turn_id", turn.id),))
        if turn.is_answered or turn.state == "WAITING":
            return Replayed(turn)
        if turn.state == "RUNNING" and not turn.is_abandoned:
            return Follows()
        if call.is_following and turn.reason in AGENT_ERRORS and not turn.is_exhausted:
            return Refused(AGENT_ERRORS[turn.reason], turn.reason)
        ended: tuple[tuple[str, str], ...] = (("turn_id", turn.id),)
        if not turn.is_newest:
            return Refused("FAILED_PRECONDITION", "TURN_SUPERSEDED", ended)
        if turn.is_exhausted:
            ended = (*ended, ("attempts", str(turn.spent_attempts)))
            return Refused("FAILED_PRECONDITION", "ATTEMPTS_EXHAUSTED", ended)
        return Starts(turn)

    def started(self, outcome: Starts, call: Call, run: Run) -> None:
        """Write down that a call began an attempt."""
        if outcome.turn is None:
            self._runs(self._opened(call, run), run)
        else:
            self.started_again(outcome.turn, run)

    def started_again(self, turn: Turn, run: Run) -> None:
        """Write down that another attempt of a turn began."""
        assert not turn.is_to_stop
        assert not turn.is_exhausted
        if turn.state == "RUNNING":
            self._lost(turn)
            before = turn.conversation.holder
            if before is None or not before.is_started:  # else the turn has not ended by that
                self._ends(turn, "FAILED", "TURN_ABANDONED")
        turn.spent = 0 if turn.state == "WAITING" else turn.spent_attempts
        turn.attempt += 1
        turn.state, turn.reason = "RUNNING", ""
        self._runs(turn, run)

    def _runs(self, turn: Turn, run: Run) -> None:
        conversation = turn.conversation
        conversation.holder, conversation.is_lease_valid = run, True
        run.is_started |= turn.is_started
        turn.is_started = False
        self.is_active(conversation)
        run.turn = turn
        self.runs.append(run)

    def is_active(self, conversation: Conversation) -> None:
        """Write down that something happens in a conversation: it is the first in lists."""
        conversation.activity = next(self.clock)
        conversation.idle_days = 0

    # Turns that are started

    def accepted(self, call: Call, turn_id: str, conversation_id: str) -> Turn:
        """Write down that a turn is in its conversation's queue, which may be a new one."""
        conversation = self.conversations.get((call.owner, conversation_id))
        if conversation is None:
            conversation = Conversation(call.owner, conversation_id, activity=next(self.clock))
            self.conversations[call.owner, conversation_id] = conversation
        request = call.request
        turn = Turn(
            turn_id,
            conversation,
            request.request_id,
            request.message,
            call.sent,
            user_sequence=0,
            state="QUEUED",
            attempt=0,
            expected_sequence=call.expected_sequence,
        )
        conversation.queue.append(turn)
        if request.request_id:
            self.requests[call.owner, request.request_id] = turn
        return turn

    def begun(self, turn: Turn, run: Run) -> None:
        """Write down that the first turn of a queue has begun."""
        conversation = turn.conversation
        assert turn is conversation.queue.pop(0)
        self.overrun(conversation)
        self._said(turn)
        turn.state, turn.attempt = "RUNNING", 1
        self._runs(turn, run)

    def never_begins(self, turn: Turn, state: str, reason: str = "") -> None:
        """Write down that a turn of a queue was cancelled, or that it did not fit."""
        turn.conversation.queue.remove(turn)
        turn.conversation.never_begun.append(turn)
        turn.state, turn.reason = state, reason
        self._ends(turn, state, reason)

    def _ends(self, turn: Turn, state: str, reason: str = "") -> None:
        turn.conversation.ends.append(End(turn.id, turn.attempt, state, reason))

    def _opened(self, call: Call, run: Run) -> Turn:
        owner, conversation_id = call.owner, str(run.seen.conversation_id)
        conversation = self.conversations.get((owner, conversation_id))
        if conversation is None:
            conversation = Conversation(owner, conversation_id)
            self.conversations[owner, conversation_id] = conversation
        self.overrun(conversation)
        request, turn_id = call.request, str(run.seen.turn_id)
        turn = Turn(
            turn_id,
            conversation,
            request.request_id,
            request.message,
            call.sent,
            user_sequence=0,
        )
        self._said(turn)
        if request.request_id:
            self.requests[owner, request.request_id] = turn
        return turn

    def _said(self, turn: Turn) -> None:
        """Write down that a turn has begun: its message is in the conversation."""
        conversation = turn.conversation
        if not conversation.said and not conversation.title:
            conversation.title = turn.message
        turn.given = conversation.agent
        conversation.said.append(("USER", turn.message, turn.id))
        turn.user_sequence = conversation.last_sequence
        conversation.turns.append(turn)

    def waits(self, run: Run) -> None:
        """Write down that an attempt has ended: its turn waits, unless it is to be stopped."""
        turn, conversation = run.turn, run.turn.conversation
        turn.told = [a.told(WaitEnd.CANCELLED) for a in turn.asked if a.given is not None]
        if not turn.pending:
            turn.asked += self._asked(turn, run.asks)
            turn.spent = -1  # it has stored a step: it does not count
        if turn.is_to_stop:
            self.answered(turn, BEGINNING, "CANCELLED")
            return
        self.used[conversation.owner].attempts += 1
        conversation.holder = None
        turn.state, turn.is_started = "WAITING", run.is_started
        self._ends(turn, "WAITING")

    @staticmethod
    def _asked(turn: Turn, names: Sequence[str]) -> list[Asked]:
        number = max((asked.call.step for asked in turn.asked), default=0) + 1
        return [Asked(call) for call in calls_of(UUID(turn.id), number, names)]

    def failed(self, turn: Turn, reason: str) -> None:
        if turn.is_to_stop:
            self.answered(turn, BEGINNING, "CANCELLED")
            return
        turn.conversation.holder = None
        self._lost(turn)
        turn.state, turn.reason = "FAILED", reason
        self._ends(turn, *turn.standing)

    def _lost(self, turn: Turn) -> None:
        """Count an attempt that ends without an answer."""
        used = self.used[turn.conversation.owner]
        used.attempts += 1
        used.failed += 1

    def overrun(self, conversation: Conversation) -> None:
        """Write down that the open turn is abandoned, if there is one."""
        if (turn := conversation.open_turn) is not None:
            self._abandoned(turn)
            self._ends(turn, *turn.standing)
        conversation.holder = None

    def _abandoned(self, turn: Turn) -> None:
        self._lost(turn)
        turn.state, turn.reason = "FAILED", "TURN_ABANDONED"

    def appended(self, conversation: Conversation, texts: list[tuple[str, str]]) -> None:
        """Write down what is appended. A turn whose lease has passed is abandoned."""
        self.overrun(conversation)
        if not conversation.said and not conversation.title:
            conversation.title = texts[0][1]
        conversation.said += [(role, text, "") for role, text in texts]
        self.is_active(conversation)

    def deleted(self, conversation: Conversation) -> None:
        """Write down that a conversation is deleted: its open turn is closed, its queue emptied.

        The feed does not tell of these ends.
        """
        if (turn := conversation.waiting_turn) is not None:  # its attempt has ended before
            turn.state, turn.reason, turn.is_started = "FAILED", "TURN_ABANDONED", False
        elif (turn := conversation.open_turn) is not None:
            self._abandoned(turn)
        conversation.holder = None
        for queued in conversation.queue:
            queued.state = "CANCELLED"
        conversation.never_begun += conversation.queue
        conversation.queue.clear()
        conversation.is_deleted = conversation.was_deleted = True

    def erased(self, owner: str) -> None:
        """Forget everything of an owner. Attempts that were overtaken may still stand."""
        for by_owner in (self.conversations, self.requests, self.calls, self.creations):
            for key in [key for key in by_owner if key[0] == owner]:
                del by_owner[key]
        self.used.pop(owner, None)

    def answered(
        self,
        turn: Turn,
        answer: str,
        state: str = "COMPLETED",
        why: WaitEnd = WaitEnd.CANCELLED,
    ) -> None:
        """Write down a turn's answer.

        Args:
            why: what has ended its wait, if calls are without a result.
        """
        conversation = turn.conversation
        conversation.holder = None
        turn.told = [asked.told(why) for asked in turn.asked]
        self.answered_turns[turn.id] = turn
        used = self.used[conversation.owner]
        used.turns += 1
        used.attempts += turn.state == "RUNNING"  # else it is counted already
        turn.state, turn.reason, turn.answer = state, "", answer
        self._ends(turn, state)
        conversation.said.append(("ASSISTANT", answer, turn.id))
        turn.response_sequence = conversation.last_sequence
