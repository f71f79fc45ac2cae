"""How far a stream has come: what to ask for next, and whether to ask again.

Both clients use it, and nothing here does I/O. A stream that was lost is asked for again, from
where it was lost: a turn behind the last text or tool call seen, a watch behind the last message.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import grpc
from google.protobuf.message import Message

from parley.v1 import conversation_service_pb2 as pb
from parley_client.calls import Call, Id
from parley_client.errors import AttemptLost, ParleyError, Unavailable
from parley_client.retries import StreamTries, WatchTries

WATCH_CALL_S = 300.0
"""How long one call of a watch may last: the server ends it sooner, unless it is lost."""

OnRetry = Callable[[ParleyError], None]
"""Told of every failure that is about to be retried, such as to log it."""

Event = TypeVar("Event", bound=Message)


class Stream(ABC, Generic[Event]):
    """One stream, over all calls that it takes."""

    method: str
    """The RPC's name in the stub."""
    request: Message
    """What to ask for in the next call."""
    request_id: str = ""
    is_over: bool = False
    """The last event has come."""

    @property
    @abstractmethod
    def time_left_s(self) -> float:
        """How long the next call may last, in seconds."""

    @abstractmethod
    def takes(self, event: Event) -> bool:
        """Take note of an event. Returns: whether it is news to whoever iterates."""

    @abstractmethod
    def pause_s(self, error: ParleyError) -> float | None:
        """Say how long to wait before the next call, in seconds. None: the error stands."""

    def cut_short(self) -> ParleyError:
        """Return the error of a call that ended well and too early."""
        text = "the stream ended before its last event"
        return Unavailable(text, code=grpc.StatusCode.UNAVAILABLE, request_id=self.request_id)


class TurnStream(Stream[pb.StreamChatResponse]):
    """One turn, as it comes."""

    method = "StreamChat"
    request: pb.StreamChatRequest

    def __init__(self, call: Call[pb.ChatResponse]) -> None:
        self.request = pb.StreamChatRequest(chat=cast(pb.ChatRequest, call.request))
        self.request_id = call.request_id
        self._tries = StreamTries(call.timeout_s)

    @property
    def time_left_s(self) -> float:
        return self._tries.time_left_s

    def takes(self, event: pb.StreamChatResponse) -> bool:
        if event.HasField("index"):
            self.request.after_attempt = event.attempt
            self.request.after_index = event.index
            self._tries.came_further()
        self.is_over = event.HasField("completed")
        return True

    def pause_s(self, error: ParleyError) -> float | None:
        return self._tries.pause_s(error)


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
        self._tries = WatchTries()
        self._turn: tuple[str, int, int] = ("", 0, 0)
        """The last turn told, its attempt and its state."""
        self._event: tuple[str, int, int] = ("", 0, -1)
        """The last event told: its turn, its attempt and its index."""

    @property
    def time_left_s(self) -> float:
        return WATCH_CALL_S

    def takes(self, update: pb.WatchConversationResponse) -> bool:
        """Take note of an update.

        A call that goes on with a watch begins with what the open turn's state is and with its
        first event: of these, what was told before is no news.
        """
        self._tries.came_further()
        match update.WhichOneof("update"):
            case "message":
                self.request.after_sequence = update.message.sequence
            case "turn":
                turn = (update.turn.turn_id, update.turn.attempt, update.turn.state)
                is_news, self._turn = turn != self._turn, turn
                return is_news
            case "event" if update.event.HasField("index"):
                turn_id = self._turn[0]
                told = self._event
                event = (turn_id, update.event.attempt, update.event.index)
                if turn_id == told[0] and event <= told:
                    return False
                self._event = event
        return True

    def pause_s(self, error: ParleyError) -> float | None:
        return self._tries.pause_s(error)


class TextOnly:
    """Takes the text out of one turn's events."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._attempt = 0
        self._text = ""

    def added_by(self, event: pb.StreamChatResponse) -> str:
        """Return what an event adds to the text; empty: nothing.

        Raises: AttemptLost: text that was returned before is void.
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

    def _void(self) -> AttemptLost:
        text = "the agent began anew, and the text so far is void: ask for the answer with `chat`"
        return AttemptLost(text, code=grpc.StatusCode.ABORTED, request_id=self._request_id)
