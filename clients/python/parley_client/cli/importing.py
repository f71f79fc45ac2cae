"""Stores conversations from elsewhere; an import can be stopped at any point and run again.

A conversation is created under an id that depends on where it comes from, then its messages are
appended in batches, each behind the message that it has to follow. All request ids are derived from
what is sent. So nothing is stored twice, and an import that is run again goes on where the one
before ended.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Literal

from parley.v1 import conversation_pb2 as parts
from parley_client.cli.chatgpt import IDS
from parley_client.errors import (
    AgentUnknown,
    ConversationExists,
    ConversationNotFound,
    InvalidRequest,
    ParleyError,
    RequestIdReused,
    SequenceMismatch,
    TurnInProgress,
)
from parley_client.sync_client import ParleyClient

MAX_BATCH = 1_000
MAX_BATCH_BYTES = 1 << 20
MAX_BATCH_CALLS = 10_000
"""The contract's limits of one AppendMessages call: messages, bytes, and tool calls in them."""

_PAGE_SIZE = 1_000


@dataclass(slots=True)
class Source:
    """A conversation to import."""

    conversation: parts.Conversation
    """Its id, title, labels, instructions and agent."""
    messages: Iterable[parts.Message]
    left_out: Counter[str] = field(default_factory=Counter)
    """What became no message: how often, by kind."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of importing a conversation."""

    kind: Literal["imported", "continued", "present", "failed"]
    added: int
    """How many messages were added."""
    why: str = ""
    """Why it failed, for people."""


class _CannotImport(Exception):
    """A conversation cannot be imported, others can. The text says why."""


class Importer:
    """Stores one conversation after the other."""

    def __init__(
        self,
        client: ParleyClient,
        *,
        labels: Mapping[str, str],
        has_new_ids: bool,
        timeout_s: float,
        on_progress: Callable[[int], None],
    ) -> None:
        """Make an importer.

        Args:
            labels: further labels of each conversation.
            has_new_ids: store conversations under ids that are derived from theirs.
            timeout_s: for each call, in seconds.
            on_progress: called with the number of messages that were added.
        """
        self._client = client
        self._labels = labels
        self._has_new_ids = has_new_ids
        self._timeout_s = timeout_s
        self._on_progress = on_progress

    def wanted(self, source: Source) -> parts.Conversation:
        """Return a conversation as it is to be created."""
        given = source.conversation
        conversation_id = given.conversation_id
        if self._has_new_ids:
            conversation_id = str(uuid.uuid5(IDS, f"new {conversation_id}"))
        return parts.Conversation(
            conversation_id=conversation_id,
            title=given.title,
            labels={**given.labels, **self._labels},
            instructions=given.instructions,
            agent=given.agent,
        )

    def take(self, source: Source) -> Outcome:
        """Import a conversation.

        Raises: ParleyError: no other conversation could be imported either, such as without a token
            or while the server is down. Any error of reading the messages.
        Guarantees: nothing is stored twice, whenever it was stopped before.
        """
        if not source.conversation.conversation_id:  # the server would make another one each time
            return Outcome("failed", 0, "it has no conversation_id")
        wanted = self.wanted(source)
        messages = iter(source.messages)
        added = 0
        try:
            try:
                is_new, there = self._begin(wanted)
            except AgentUnknown:  # nothing was stored
                source.left_out[f"agent {wanted.agent}, which this server does not have"] += 1
                wanted.agent = ""
                is_new, there = self._begin(wanted)
            position = self._compare(wanted.conversation_id, messages, there)
            for batch in batches(messages):
                self._append(wanted.conversation_id, batch, position)
                position += len(batch)
                added += len(batch)
                self._on_progress(len(batch))
        except (_CannotImport, InvalidRequest, SequenceMismatch, TurnInProgress) as error:
            return Outcome("failed", added, _why(error))
        except ConversationNotFound:
            why = "it was deleted, and its id is not free yet: use --new-ids"
            return Outcome("failed", added, why)
        if is_new:
            return Outcome("imported", added)
        return Outcome("continued" if added else "present", added)

    def _begin(self, wanted: parts.Conversation) -> tuple[bool, int]:
        """Create a conversation, or find it.

        Returns: whether it is new, and how many messages it has.

        Raises: AgentUnknown; ConversationNotFound: it was deleted, and its id is not free yet.
        """
        try:
            made = self._client.create_conversation(
                conversation_id=wanted.conversation_id,
                request_id=_derived("create", wanted.conversation_id, _digest([wanted])),
                title=wanted.title,
                labels=wanted.labels,
                instructions=wanted.instructions,
                agent=wanted.agent,
                timeout_s=self._timeout_s,
            )
        except (ConversationExists, RequestIdReused):
            found = self._client.conversation(wanted.conversation_id, timeout_s=self._timeout_s)
            return False, found.last_sequence
        return not made.replayed, made.conversation.last_sequence

    def _compare(self, conversation_id: str, messages: Iterator[parts.Message], there: int) -> int:
        """Compare the first messages with those that are there. Returns: how many were compared.

        Raises: _CannotImport: they differ.
        """
        if not there:
            return 0
        count = 0
        stored = self._client.history(
            conversation_id, page_size=_PAGE_SIZE, timeout_s=self._timeout_s
        )
        for given in islice(messages, there):
            found = next(stored, None)
            if found is None or _said(found) != _said(given):
                raise _CannotImport(
                    f"another conversation has its id, {conversation_id}, and differs from message "
                    f"{count + 1} on: use --new-ids"
                )
            count += 1
        return count

    def _append(self, conversation_id: str, batch: list[parts.Message], position: int) -> None:
        self._client.append_messages(
            conversation_id,
            batch,
            request_id=_derived("append", conversation_id, str(position), _digest(batch)),
            expected_sequence=position,
            timeout_s=self._timeout_s,
        )


def batches(messages: Iterable[parts.Message]) -> Iterator[list[parts.Message]]:
    """Return messages in batches, as long as one call may be."""
    batch: list[parts.Message] = []
    batch_bytes = batch_calls = 0
    for message in messages:
        message_bytes, message_calls = bytes_of(message), len(message.tool_calls)
        is_full = (
            len(batch) == MAX_BATCH
            or batch_bytes + message_bytes > MAX_BATCH_BYTES
            or batch_calls + message_calls > MAX_BATCH_CALLS
        )
        if batch and is_full:
            yield batch
            batch, batch_bytes, batch_calls = [], 0, 0
        batch.append(message)
        batch_bytes += message_bytes
        batch_calls += message_calls
    if batch:
        yield batch


def bytes_of(message: parts.Message) -> int:
    """Return what a message counts in the contract's limit, in UTF-8."""
    texts = [message.content]
    for call in message.tool_calls:
        texts += (call.id, call.name, call.arguments, call.result)
    return sum(len(text.encode()) for text in texts)


def _said(message: parts.Message) -> tuple[object, ...]:
    """Return what two messages have to have in common to be the same one."""
    return message.role, message.content, list(message.tool_calls)


def _digest(messages: Iterable[parts.Message | parts.Conversation]) -> str:
    digest = sha256()
    for message in messages:
        data = message.SerializeToString(deterministic=True)
        digest.update(len(data).to_bytes(8) + data)
    return digest.hexdigest()


def _derived(*of: str) -> str:
    """Return the request id for a call."""
    return str(uuid.uuid5(IDS, " ".join(of)))


def _why(error: Exception) -> str:
    if isinstance(error, InvalidRequest) and error.violations:
        wrong = "; ".join(f"{v.field}: {v.description}" for v in error.violations[:3])
        return f"the server refuses it: {wrong}"
    return error.message if isinstance(error, ParleyError) else str(error)
