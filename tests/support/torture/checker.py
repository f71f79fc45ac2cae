"""Whether what callers were told agrees with what is stored.

Each OK is stored once, as it was told; messages are gapless; turns of a conversation do not
overlap; what ended before another call began comes before it (real-time order); what was refused is not
there; what is in doubt is there once or not at all; and a read sees a beginning of what is stored,
with everything that had been answered when it began.

It finds what is wrong in a history that is finite and whole. It does not search for an order, since
sequences say which order the service has chosen.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from support.torture.operations import NOTHING_STORED, Kind, Operation, Outcome

USER, ASSISTANT = "USER", "ASSISTANT"
MOST = 20
"""How many problems are told, at most."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A row of `message`."""

    conversation_id: str
    sequence: int
    role: str
    content: str
    turn_id: str


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A row of `turn`."""

    turn_id: str
    conversation_id: str
    request_id: str
    state: str
    user_sequence: int
    response_sequence: int | None
    attempt: int = 1


@dataclass(frozen=True)
class Stored:
    """What the database holds, of every owner."""

    messages: Sequence[StoredMessage]
    turns: Sequence[StoredTurn]


def said_back(message: str) -> str:
    """Answer as the echo agent does."""
    return message


def check(
    operations: Sequence[Operation],
    stored: Stored,
    *,
    answer: Callable[[str], str] = said_back,
) -> list[str]:
    """Compare what callers were told with what is stored.

    Args:
        answer: what the agent says to a message. Messages of different requests differ.
    Returns: a sentence for each thing that is wrong, MOST at most; none: all holds.
    """
    history = _History(operations, stored, answer)
    found = [
        *history.gaps(),
        *history.overlaps(),
        *history.doubles(),
        *history.lies(),
        *history.disorder(),
        *history.wrong_reads(),
    ]
    return found[:MOST]


@dataclass(frozen=True, slots=True)
class _Request:
    """All calls with one request id."""

    request_id: str
    operations: tuple[Operation, ...]

    @property
    def message(self) -> str:
        return self.operations[0].message

    @property
    def start(self) -> float:
        return min(each.start for each in self.operations)

    @property
    def answers(self) -> list[Operation]:
        return [each for each in self.operations if each.outcome == Outcome.OK]

    @property
    def end(self) -> float | None:
        """When a caller first knew that it is stored; None: no caller knows."""
        return min((each.end for each in self.answers), default=None)

    @property
    def is_refused(self) -> bool:
        return all(
            each.outcome == Outcome.REFUSED and each.reason in NOTHING_STORED
            for each in self.operations
        )


class _History:
    def __init__(
        self, operations: Sequence[Operation], stored: Stored, answer: Callable[[str], str]
    ) -> None:
        self._answer = answer
        self._reads = [each for each in operations if each.kind == Kind.READ]
        calls: dict[str, list[Operation]] = defaultdict(list)
        for each in operations:
            if each.kind != Kind.READ:
                calls[each.request_id].append(each)
        self._requests = [_Request(key, tuple(of)) for key, of in calls.items()]
        self._turns = {turn.turn_id: turn for turn in stored.turns}
        self._turns_of: dict[str, list[StoredTurn]] = defaultdict(list)
        for turn in stored.turns:
            self._turns_of[turn.request_id].append(turn)
        self._messages: dict[str, list[StoredMessage]] = defaultdict(list)
        for message in stored.messages:
            self._messages[message.conversation_id].append(message)
        for of in self._messages.values():
            of.sort(key=lambda message: message.sequence)
        self._at = {(each.conversation_id, each.sequence): each for each in stored.messages}

    def gaps(self) -> Iterator[str]:
        """Find conversations whose messages are not 1, 2, 3 …."""
        for conversation_id, messages in self._messages.items():
            sequences = [message.sequence for message in messages]
            if sequences != list(range(1, len(sequences) + 1)):
                yield f"gap: conversation {conversation_id} has the sequences {sequences[:50]}"

    def overlaps(self) -> Iterator[str]:
        """Find answers that do not stand right behind what they answer."""
        for turn in self._turns.values():
            if turn.response_sequence is None:
                continue
            between = turn.response_sequence - turn.user_sequence
            if between != 1:
                yield (
                    f"overlap: turn {turn.turn_id} of {turn.conversation_id} was asked at"
                    f" {turn.user_sequence} and answered at {turn.response_sequence}"
                )

    def doubles(self) -> Iterator[str]:
        """Find what is there twice: messages, answers, turns of a request id."""
        where: dict[tuple[str, str], list[StoredMessage]] = defaultdict(list)
        for messages in self._messages.values():
            for message in messages:
                where[message.role, message.turn_id].append(message)
                if message.role == USER:
                    where["said", message.content].append(message)
        asked = {request.message for request in self._requests}
        for (role, key), messages in where.items():
            if len(messages) > 1 and key and (role != "said" or key in asked):
                places = [(each.conversation_id, each.sequence) for each in messages[:3]]
                yield f"doubled: {role} {key} is {len(messages)} times there: {places}"
        for request in self._requests:
            turns = self._turns_of[request.request_id]
            if len(turns) > 1:
                yield f"doubled: request {request.request_id} has {len(turns)} turns"

    def lies(self) -> Iterator[str]:
        """Find calls that were told something else than is stored."""
        for request in self._requests:
            turns = self._turns_of[request.request_id]
            if request.is_refused and turns:
                yield f"refused: request {request.request_id} was refused and is stored"
            for told in request.answers:
                yield from self._lies_of(told)

    def _lies_of(self, told: Operation) -> Iterator[str]:
        turn = self._turns.get(told.turn_id)
        if turn is None:
            yield f"lost: {told.kind} {told.request_id} was answered, its turn is not stored"
            return
        if (told.request_id, told.conversation_id) != (turn.request_id, turn.conversation_id):
            yield f"wrong: {told.kind} {told.request_id} was answered with another's turn"
            return
        if turn.state != "COMPLETED" or turn.response_sequence is None:
            yield f"lost: {told.kind} {told.request_id} was answered, its turn is {turn.state}"
            return
        places = [(turn.user_sequence, USER, told.message)]
        if told.kind != Kind.START:
            if (turn.user_sequence, turn.response_sequence) != (
                told.user_sequence,
                told.response_sequence,
            ):
                yield f"wrong: {told.kind} {told.request_id} was told other sequences"
            if told.response != self._answer(told.message):
                yield f"wrong: {told.kind} {told.request_id} was told {told.response[:40]!r}"
        places.append((turn.response_sequence, ASSISTANT, self._answer(told.message)))
        for sequence, role, content in places:
            found = self._at.get((turn.conversation_id, sequence))
            if found is None:
                yield f"lost: {role} message {sequence} of {told.kind} {told.request_id}"
            elif (found.role, found.content, found.turn_id) != (role, content, turn.turn_id):
                yield f"wrong: {role} message {sequence} of {told.kind} {told.request_id}"
        if told.expected_sequence is not None and (
            turn.user_sequence != told.expected_sequence + 1
        ):
            yield f"wrong: {told.request_id} did not follow {told.expected_sequence}"

    def disorder(self) -> Iterator[str]:
        """Find turns that stand before one that was answered before they were asked for."""
        by_conversation: dict[str, list[tuple[int, _Request]]] = defaultdict(list)
        for request in self._requests:
            for turn in self._turns_of[request.request_id][:1]:
                if turn.user_sequence:  # else it is queued
                    by_conversation[turn.conversation_id].append((turn.user_sequence, request))
        for requests in by_conversation.values():
            requests.sort(key=lambda pair: pair[0], reverse=True)
            earliest_end = float("inf")  # of all that stand behind
            last = ""
            for _, request in requests:
                if earliest_end < request.start:
                    yield (
                        f"order: request {request.request_id} was asked after {last} had been"
                        " answered, and stands before it"
                    )
                if request.end is not None and request.end < earliest_end:
                    earliest_end, last = request.end, request.request_id

    def wrong_reads(self) -> Iterator[str]:
        """Find reads of what is not stored, or that miss what had been answered."""
        ends: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for request in self._requests:
            for told in request.answers:
                if told.kind != Kind.START:
                    ends[told.conversation_id].append((told.end, told.response_sequence))
        for read in self._reads:
            if read.outcome != Outcome.OK:
                continue
            if [said.sequence for said in read.seen] != list(range(1, len(read.seen) + 1)):
                yield f"read: a gap in {read.conversation_id}"
            for said in read.seen:
                found = self._at.get((read.conversation_id, said.sequence))
                if found is None or (found.role, found.content) != (said.role, said.content):
                    yield f"read: message {said.sequence} of {read.conversation_id} is not stored"
                    break
            known = max(
                (last for end, last in ends[read.conversation_id] if end < read.start), default=0
            )
            if len(read.seen) < known:
                yield (
                    f"read: {len(read.seen)} messages of {read.conversation_id}, after one had"
                    f" been answered at {known}"
                )
