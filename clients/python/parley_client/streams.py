"""Follows a stream's progress: what the next call asks for, and whether there is one.

Both clients use it; nothing here does I/O. A lost stream is resumed where it was lost: a turn
behind the last text or tool call seen, a watch behind the last message or turn, an export behind
the last part. A rehearsal, which is stored nowhere, is only begun again before anything has come.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import grpc
from google.protobuf.message import Message

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.calls import Call, Id, Labels, pairs_of
from parley_client.errors import (
    ActionRequired,
    AttemptLost,
    ConversationNotFound,
    ParleyError,
    Unavailable,
)
from parley_client.retries import ExportTries, RehearsalTries, StreamTries, WatchTries

WATCH_CALL_S = 300.0
"""The deadline of one call of a watch or an export. The server ends it sooner, if it can."""

OnRetry = Callable[[ParleyError], None]
"""Called with every error that is about to be retried, such as to log it."""

Event = TypeVar("Event", bound=Message)


class Stream(ABC, Generic[Event]):
    """One stream, over all calls that it needs."""

    method: str
    """The RPC's name in the stub."""
    request: Message
    """What to ask for in the next call."""
    request_id: str = ""
    tries: StreamTries
    is_over: bool = False
    """The last event has come."""

    @property
    @abstractmethod
    def time_left_s(self) -> float:
        """How long the next call may last, in seconds."""

    @abstractmethod
    def take(self, event: Event) -> bool:
        """Record an event. Returns: whether the caller has not seen it yet."""

    def last_event(self, error: ParleyError) -> Event | None:  # noqa: ARG002 - most have none
        """Return the last event, if an error stands for it."""
        return None

    def cut_short(self) -> ParleyError:
        """Return the error for a call that ended without an error before its last event."""
        text = "the stream ended before its last event"
        return Unavailable(text, code=grpc.StatusCode.UNAVAILABLE, request_id=self.request_id)


class _Following(Stream[Event]):
    """A stream of one turn's events."""

    request: pb.StreamChatRequest | pb.StreamResumeTurnRequest

    def __init__(self, call: Call[Any]) -> None:
        self.request_id = call.request_id
        self.tries = StreamTries(call.timeout_s)

    @property
    def time_left_s(self) -> float:
        return self.tries.time_left_s

    def _note(self, event: pb.StreamChatResponse) -> None:
        """Take note of an event: the next call asks for those behind it."""
        if event.HasField("index"):
            self.request.after_attempt = event.attempt
            self.request.after_index = event.index
            self.tries.note_progress()
        self.is_over = event.HasField("completed")


class TurnStream(_Following[pb.StreamChatResponse]):
    """One turn, as it comes."""

    method = "StreamChat"

    def __init__(self, call: Call[pb.ChatResponse]) -> None:
        super().__init__(call)
        self.request = pb.StreamChatRequest(chat=cast(pb.ChatRequest, call.request))

    def take(self, event: pb.StreamChatResponse) -> bool:
        self._note(event)
        return True


class ResumedStream(_Following[pb.StreamResumeTurnResponse]):
    """One turn that was given what it waited for, as it comes."""

    method = "StreamResumeTurn"

    def __init__(self, call: Call[pb.ResumeTurnResponse]) -> None:
        super().__init__(call)
        self.request = pb.StreamResumeTurnRequest(resume=cast(pb.ResumeTurnRequest, call.request))

    def take(self, event: pb.StreamResumeTurnResponse) -> bool:
        self._note(event.event)
        return True


class WatchStream(Stream[pb.WatchConversationResponse]):
    """One conversation, watched."""

    method = "WatchConversation"
    request: pb.WatchConversationRequest

    def __init__(self, conversation_id: Id, after_sequence: int, *, include_events: bool) -> None:
        self.request = pb.WatchConversationRequest(
            conversation_id=str(conversation_id),
            after_sequence=after_sequence,
            include_events=include_events,
        )
        self.tries = WatchTries()
        self._turn: tuple[str, int, int] = ("", 0, 0)
        """The last turn delivered, its attempt and its state."""
        self._event: tuple[str, int, int] = ("", 0, -1)
        """The last event delivered: its turn, its attempt and its index."""

    @property
    def time_left_s(self) -> float:
        return WATCH_CALL_S

    def take(self, update: pb.WatchConversationResponse) -> bool:
        """Record an update.

        A call that resumes a watch begins with the open turn's state and its first event, which may
        have been delivered before.
        """
        self.tries.note_progress()
        match update.WhichOneof("update"):
            case "message":
                self.request.after_sequence = update.message.sequence
            case "turn":
                turn = (update.turn.turn_id, update.turn.attempt, update.turn.state)
                is_news, self._turn = turn != self._turn, turn
                return is_news
            case "event" if update.event.HasField("index"):
                turn_id = self._turn[0]
                delivered = self._event
                event = (turn_id, update.event.attempt, update.event.index)
                if turn_id == delivered[0] and event <= delivered:
                    return False
                self._event = event
            case "deleted":
                self.is_over = True
        return True

    def last_event(self, error: ParleyError) -> pb.WatchConversationResponse | None:
        """Return that the conversation was deleted, if a call that resumes the watch finds none."""
        is_deleted = self.tries.is_under_way and isinstance(error, ConversationNotFound)
        return pb.WatchConversationResponse(deleted=pb.WatchDeleted()) if is_deleted else None


class FeedStream(Stream[pb.WatchTurnsResponse]):
    """The turns that end, watched."""

    method = "WatchTurns"
    request: pb.WatchTurnsRequest

    def __init__(
        self, after_cursor: str, labels: Labels | None, *, only_new: bool, all_owners: bool
    ) -> None:
        """Watch nothing yet. Raises: ValueError: a label cannot be told from another."""
        self.request = pb.WatchTurnsRequest(
            after_cursor=after_cursor,
            only_new=only_new,
            labels=pairs_of(labels),
            all_owners=all_owners,
        )
        self.tries = WatchTries()

    @property
    def time_left_s(self) -> float:
        return WATCH_CALL_S

    def take(self, update: pb.WatchTurnsResponse) -> bool:
        self.tries.note_progress()
        self.request.after_cursor = update.cursor
        return True


class ExportStream(Stream[pb.ExportConversationsResponse]):
    """Everything that the caller has, part by part."""

    method = "ExportConversations"
    request: pb.ExportConversationsRequest

    def __init__(self, cursor: str) -> None:
        self.request = pb.ExportConversationsRequest(cursor=cursor)
        self.tries = ExportTries()

    @property
    def time_left_s(self) -> float:
        return WATCH_CALL_S

    def take(self, part: pb.ExportConversationsResponse) -> bool:
        self.tries.note_progress()
        self.request.cursor = part.cursor
        self.is_over = part.HasField("done")
        return True


class RehearsalStream(Stream[pb.RehearseTurnResponse]):
    """One rehearsal of a turn."""

    method = "RehearseTurn"

    def __init__(self, call: Call[pb.RehearseTurnResponse]) -> None:
        self.request = call.request
        self.tries = RehearsalTries(call.timeout_s)

    @property
    def time_left_s(self) -> float:
        return self.tries.time_left_s

    def take(self, event: pb.RehearseTurnResponse) -> bool:
        self.tries.note_progress()
        self.is_over = event.HasField("completed")
        return True


class TextOnly:
    """Extracts the text from one turn's events."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._attempt = 0
        self._text = ""

    def take(self, event: pb.StreamChatResponse) -> str:
        """Return what an event adds to the text; empty: nothing.

        Raises: AttemptLost: the text returned before is void.
        """
        if event.HasField("completed"):
            whole = event.completed.response
            if not whole.startswith(self._text):
                raise self._void()
            return whole[len(self._text) :]
        if self._text and event.attempt != self._attempt:
            raise self._void()
        self._attempt = event.attempt
        self._text += event.chunk.text
        return event.chunk.text

    def check_end(self, event: pb.StreamChatResponse) -> None:
        """Look at an event once its text is told. Raises: ActionRequired: the turn waits."""
        if event.completed.finish_reason == parts.FINISH_REASON_ACTION_REQUIRED:
            text = "the turn waits for its caller: `turn` tells for what"
            code = grpc.StatusCode.FAILED_PRECONDITION
            raise ActionRequired(text, code=code, request_id=self._request_id)

    def _void(self) -> AttemptLost:
        text = "the agent started over, and the text so far is void: ask for the answer with `chat`"
        return AttemptLost(text, code=grpc.StatusCode.ABORTED, request_id=self._request_id)
