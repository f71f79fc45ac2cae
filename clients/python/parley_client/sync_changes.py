# Generated from async_changes.py by tools/async_to_sync.py. Do not edit: run `make gen`.
"""What the synchronous client changes: conversations, and everything that the caller has stored."""

from collections.abc import Iterable

from parley.v1 import conversation_pb2
from parley.v1 import conversation_service_pb2 as pb
from parley_client import calls, conversation_calls
from parley_client.calls import READ_TIMEOUT_S, Id, Labels
from parley_client.conversation_calls import CHANGE_TIMEOUT_S, ERASURE_PAUSE_S, Said
from parley_client.sync_agents import Agents


class Changes(Agents):
    """The calls that change what is stored and run no agent."""

    def create_conversation(
        self,
        *,
        conversation_id: Id | None = None,
        request_id: Id | None = None,
        title: str = "",
        labels: Labels | None = None,
        instructions: str = "",
        agent: str | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> pb.CreateConversationResponse:
        """Create an empty conversation.

        `chat` creates conversations as well; this call gives one a title, labels, instructions or
        an agent before its first message.

        Args:
            conversation_id: the id that the conversation is to have. None: the server chooses one.
            request_id: the call's key, 1 to 128 of [A-Za-z0-9._:-], separate from those of turns.
                None: a new UUID, which errors show. Pass a stored one to repeat the call after a
                crash of the caller.
            title: for lists, at most 512 bytes. Empty: the beginning of the first message.
            labels: by which to find the conversation, at most 16. A key has 1 to 63 of
                [a-z0-9._/-], a value at most 63 bytes. None: no labels.
            instructions: what the agent is told in this conversation, after the server's own
                instructions; at most 8,192 bytes.
            agent: the agent that answers the turns whose callers name none, one of `list_agents`.
                None: the server's default agent, whichever it is when a turn begins.
            timeout_s: for the call, retries included, in seconds.
        Returns: `conversation`, as it is now; `replayed` if an earlier call had created it.
        Raises:
            ParleyError: ConversationExists, RequestIdReused, AgentUnknown, Unavailable,
                DeadlineExceeded, and what any call may raise: InvalidRequest, Unauthenticated,
                ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        Guarantees: one conversation for one request id, however often it is sent.
        """
        call = conversation_calls.create_conversation(
            conversation_id=conversation_id,
            request_id=request_id,
            title=title,
            labels=labels,
            instructions=instructions,
            agent=agent,
            timeout_s=timeout_s,
        )
        return self._unary(call)

    def update_conversation(
        self,
        conversation_id: Id,
        *,
        title: str | None = None,
        labels: Labels | None = None,
        instructions: str | None = None,
        agent: str | None = None,
        expected_revision: int | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> conversation_pb2.Conversation:
        """Change the title, the labels, the instructions or the agent of a conversation.

        An open turn keeps its agent; its present attempt keeps the instructions that it began with.

        Args:
            conversation_id: the conversation to change.
            title: the new title, at most 512 bytes; may be empty. None: leave it.
            labels: the new labels, in the place of all that it has; may be empty. None: leave them.
            instructions: the new instructions, at most 8,192 bytes; may be empty. None: leave them.
            agent: the agent that answers the turns whose callers name none from now on, one of
                `list_agents`; empty: the server's default agent. None: leave it.
            expected_revision: refuse the change unless this is the conversation's revision. None:
                do not check.
            timeout_s: for the call, retries included, in seconds.
        Returns: the conversation as it is now.
        Raises:
            ParleyError: ConversationNotFound, RevisionMismatch, AgentUnknown, Unavailable,
                DeadlineExceeded, and what any call may raise: InvalidRequest, Unauthenticated,
                ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        Guarantees: with `expected_revision`, the change is made once, however often it is sent: a
            retry that finds exactly its own change, at the next revision, returns it. Without, a
            retry after a lost answer makes the change again.
        """
        call = conversation_calls.update_conversation(
            conversation_id,
            title=title,
            labels=labels,
            instructions=instructions,
            agent=agent,
            expected_revision=expected_revision,
            timeout_s=timeout_s,
        )
        response = self._unary(call)
        return response.conversation

    def delete_conversation(
        self,
        conversation_id: Id,
        *,
        allow_missing: bool = False,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> pb.DeleteConversationResponse:
        """Delete a conversation with everything that was said in it.

        An open turn is stopped, and watches end.

        Args:
            conversation_id: the conversation to delete.
            allow_missing: a conversation that does not exist is no error. Set it to repeat the call
                after a crash of the caller.
            timeout_s: for the call, retries included, in seconds.
        Returns: `purge_time`, until when `undelete_conversation` brings it back. It is not set if
            nothing does, and if an earlier try of this call deleted the conversation and its answer
            was lost.
        Raises:
            ParleyError: ConversationNotFound, Unavailable, DeadlineExceeded, and what any call may
                raise: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        Guarantees: a retry that finds nothing, after a try whose outcome is unknown, is no error.
            On a caller's own channel that makes retries by itself, it is one unless `allow_missing`
            is set.
        """
        call = conversation_calls.delete_conversation(
            conversation_id, allow_missing=allow_missing, timeout_s=timeout_s
        )
        return self._unary(call)

    def undelete_conversation(
        self, conversation_id: Id, *, timeout_s: float = READ_TIMEOUT_S
    ) -> conversation_pb2.Conversation:
        """Bring a deleted conversation back, as it was when it was deleted.

        A turn that was open then has failed and can be retried. A conversation that is not deleted
        is returned as it is.

        Args:
            conversation_id: the conversation to bring back.
            timeout_s: for the call, retries included, in seconds.
        Returns: the conversation as it is now.
        Raises:
            ParleyError: ConversationNotFound (it does not exist, or can no longer be brought back),
                Unavailable, DeadlineExceeded, and what any call may raise: InvalidRequest,
                Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        """
        call = conversation_calls.undelete_conversation(conversation_id, timeout_s=timeout_s)
        response = self._unary(call)
        return response.conversation

    def append_messages(
        self,
        conversation_id: Id,
        messages: Iterable[Said],
        *,
        request_id: Id | None = None,
        allow_missing: bool = False,
        expected_sequence: int | None = None,
        on_busy: calls.OnBusy = "reject",
        timeout_s: float = CHANGE_TIMEOUT_S,
    ) -> pb.AppendMessagesResponse:
        """Add messages to a conversation without running an agent; the next turn sees them.

        Args:
            conversation_id: the conversation to add to.
            messages: in order, 1 to 1,000 with at most 1 MiB of text: messages of the contract, or
                pairs of a role ("user", "assistant" or "system") and a text.
            request_id: the call's key, 1 to 128 of [A-Za-z0-9._:-]. None: a new UUID, which errors
                show. Pass a stored one to repeat the call after a crash of the caller.
            allow_missing: create the conversation under `conversation_id` if it does not exist.
            expected_sequence: refuse the call unless this is the conversation's last sequence; 0:
                unless it is new or empty. None: do not check.
            on_busy: while a turn of the conversation is open, "reject" this call or "wait" for the
                turn's end.
            timeout_s: for the call, waits and retries included, in seconds.
        Returns: `first_sequence` and `last_sequence` of what was added; `replayed` if an earlier
            call had added it.
        Raises:
            ParleyError: ConversationNotFound, TurnInProgress, SequenceMismatch, RequestIdReused,
                Unavailable, DeadlineExceeded, and what any call may raise: InvalidRequest,
                Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        Guarantees: all messages are stored, one after the other, or none; once for one request id,
            however often it is sent.
        """
        call = conversation_calls.append_messages(
            conversation_id,
            messages,
            request_id=request_id,
            allow_missing=allow_missing,
            expected_sequence=expected_sequence,
            on_busy=on_busy,
            timeout_s=timeout_s,
        )
        return self._unary(call)

    def fork_conversation(
        self,
        conversation_id: Id,
        *,
        up_to_sequence: int = 0,
        new_conversation_id: Id | None = None,
        request_id: Id | None = None,
        timeout_s: float = CHANGE_TIMEOUT_S,
    ) -> pb.ForkConversationResponse:
        """Create a conversation with the messages, title, labels and instructions of another one.

        Args:
            conversation_id: the conversation to copy.
            up_to_sequence: the last message to copy: the last one of a turn that has ended, or an
                appended one. 0: all up to the end of the newest turn that has ended.
            new_conversation_id: the id that the new one is to have. None: the server chooses one.
            request_id: the call's key, 1 to 128 of [A-Za-z0-9._:-], shared with those of
                `create_conversation`. None: a new UUID, which errors show. Pass a stored one to
                repeat the call after a crash of the caller.
            timeout_s: for the call, retries included, in seconds.
        Returns: `conversation`, the new one as it is now; `replayed` if an earlier call had created
            it.
        Raises:
            ParleyError: ConversationNotFound, ConversationExists, RequestIdReused,
                NotATurnBoundary, SequenceNotReached, Unavailable, DeadlineExceeded, and what any
                call may raise: InvalidRequest, Unauthenticated, ScopeMissing, Overloaded,
                InternalError.
            ValueError: an argument cannot be sent.
        Guarantees: one conversation for one request id, however often it is sent.
        """
        call = conversation_calls.fork_conversation(
            conversation_id,
            up_to_sequence=up_to_sequence,
            new_conversation_id=new_conversation_id,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        return self._unary(call)

    def erase_owner(
        self, request_id: Id, *, wait: bool = False, timeout_s: float = CHANGE_TIMEOUT_S
    ) -> pb.EraseOwnerResponse:
        """Erase everything that the caller has stored, for good.

        What the caller creates after the first call stays. The token has to name the scope
        `parley.erase`.

        Args:
            request_id: the erasure's key, 1 to 128 of [A-Za-z0-9._:-]. It is kept with the receipt,
                so it must not contain personal data. Another one begins another erasure.
            wait: call again every second until everything is removed, however long that takes.
            timeout_s: for each call, retries included, in seconds.
        Returns: the receipt: `state`, whether everything is removed, the times, and how many
            conversations, messages and turns were removed so far.
        Raises:
            ParleyError: Unavailable, DeadlineExceeded, and what any call may raise: InvalidRequest,
                Unauthenticated, ScopeMissing, Overloaded, InternalError.
            ValueError: an argument cannot be sent.
        Guarantees: when it returns, no call finds any of it. One erasure for one request id,
            however often it is sent.
        """
        call = conversation_calls.erase_owner(request_id, timeout_s=timeout_s)
        closings = self._transport.closings
        while True:
            receipt = self._unary(call, closings)
            if not wait or receipt.state == pb.ERASURE_STATE_DONE:
                return receipt
            self._rest(ERASURE_PAUSE_S, call.request_id, closings)
