"""Requests about conversations themselves: which are meant, and what is to become of them."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from uuid import UUID

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import (
    ConversationChange,
    ConversationQuery,
    ExportCursor,
    NewConversation,
    NewFork,
    Owner,
)
from parley_server.rpc import page_tokens
from parley_server.rpc.violations import MAX_LABELS, Violations

MAX_TITLE_BYTES = 512
MAX_INSTRUCTIONS_BYTES = 8192
MAX_PATHS = 64
"""How many paths an update mask may name. There are fewer fields; one may be named twice."""

_CHANGEABLE = ("title", "labels", "instructions", "agent")


@dataclass(frozen=True, slots=True)
class ListQuestion:
    """What a ListConversationsRequest asks."""

    query: ConversationQuery
    arguments: str
    """What has to be the same for the next page."""


def conversations(request: pb.ListConversationsRequest, owner: Owner) -> ListQuestion:
    """Read a ListConversationsRequest.

    Raises: InvalidRequest; alone: InvalidPageToken.
    """
    violations = Violations()
    labels = wanted_labels(request.labels, violations)
    since = None
    if request.HasField("updated_after"):
        since = violations.moment("updated_after", request.updated_after)
    arguments = f"ListConversations {sorted(labels.items())} {since and since.isoformat()}"
    limit = violations.page_size(request.page_size)
    after = violations.page_token(
        request.page_token, lambda token: page_tokens.decode_conversation(owner, arguments, token)
    )
    violations.raise_any()
    return ListQuestion(ConversationQuery(limit, after, labels, since), arguments)


def wanted_labels(texts: Sequence[str], violations: Violations) -> dict[str, str]:
    """Return labels written "KEY=VALUE"."""
    wanted: dict[str, str] = {}
    if not violations.at_most("labels", len(texts), MAX_LABELS, "labels"):
        return wanted
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            violations.add("labels", "NOT_A_LABEL", 'must each be of the form "KEY=VALUE"')
        elif wanted.setdefault(key, value) != value:
            violations.add("labels", "CONTRADICTION", "must not name two values of one key")
    violations.labels(wanted)
    return wanted


def new_conversation(
    request: pb.CreateConversationRequest, agents: Container[str]
) -> NewConversation:
    """Read a CreateConversationRequest.

    Args:
        agents: the names that may be asked for.
    Raises: InvalidRequest; alone: AgentUnknown.
    """
    violations = Violations()
    conversation_id = violations.uuid("conversation_id", request.conversation_id)
    request_id = violations.request_id(request.request_id)
    violations.text("title", request.title, MAX_TITLE_BYTES)
    violations.labels(request.labels)
    violations.text("instructions", request.instructions, MAX_INSTRUCTIONS_BYTES)
    violations.agent(request.agent, agents)
    violations.raise_any()
    return NewConversation(
        conversation_id,
        request_id,
        request.title,
        dict(request.labels),
        request.instructions,
        request.agent,
    )


def change(request: pb.UpdateConversationRequest, agents: Container[str]) -> ConversationChange:
    """Read an UpdateConversationRequest: the fields that its mask names, or else those set in it.

    Args:
        agents: the names that may be asked for.
    Raises: InvalidRequest; alone: AgentUnknown.
    """
    violations = Violations()
    conversation_id = violations.required_uuid("conversation_id", request.conversation_id)
    paths = request.update_mask.paths
    violations.at_most("update_mask", len(paths), MAX_PATHS, "paths")
    named = set(paths[:MAX_PATHS])
    if unknown := named - set(_CHANGEABLE):
        known = ", ".join(_CHANGEABLE)
        for path in sorted(unknown):
            violations.add("update_mask", "UNKNOWN_FIELD", f"may name {known}; not {path[:64]!a}")
    if not named:
        named = {field for field in _CHANGEABLE if getattr(request, field)}
        if not named:
            violations.add("update_mask", "REQUIRED", "must name what to change, or set a field")
    violations.text("title", request.title, MAX_TITLE_BYTES)
    violations.labels(request.labels)
    violations.text("instructions", request.instructions, MAX_INSTRUCTIONS_BYTES)
    violations.agent(request.agent, agents)
    expected = request.expected_revision if request.HasField("expected_revision") else None
    if expected is not None and expected < 1:
        violations.add("expected_revision", "TOO_LOW", "must be 1 or more")
    violations.raise_any()
    return ConversationChange(
        conversation_id,
        title=request.title if "title" in named else None,
        labels=dict(request.labels) if "labels" in named else None,
        instructions=request.instructions if "instructions" in named else None,
        expected_revision=expected,
        agent=request.agent if "agent" in named else None,
    )


def conversation(
    request: pb.GetConversationRequest
    | pb.DeleteConversationRequest
    | pb.UndeleteConversationRequest,
) -> UUID:
    """Read which conversation is meant.

    Raises: InvalidRequest.
    """
    violations = Violations()
    conversation_id = violations.required_uuid("conversation_id", request.conversation_id)
    violations.raise_any()
    return conversation_id


def fork(request: pb.ForkConversationRequest) -> NewFork:
    """Read a ForkConversationRequest.

    Raises: InvalidRequest.
    """
    violations = Violations()
    source_id = violations.required_uuid("conversation_id", request.conversation_id)
    new_id = violations.uuid("new_conversation_id", request.new_conversation_id)
    request_id = violations.request_id(request.request_id)
    violations.not_negative("up_to_sequence", request.up_to_sequence)
    violations.raise_any()
    return NewFork(source_id, new_id, request_id, request.up_to_sequence)


def export(request: pb.ExportConversationsRequest, owner: Owner) -> ExportCursor | None:
    """Read an ExportConversationsRequest: the place to continue from; None: the beginning.

    Raises: InvalidPageToken.
    """
    violations = Violations()
    cursor = violations.page_token(
        request.cursor, lambda token: page_tokens.decode_export(owner, token), "cursor"
    )
    violations.raise_any()
    return cursor
