"""Page tokens: a versioned cursor, and a digest of the owner and the request that it belongs to.

They need no secret: every statement filters by the caller's owner, whatever a token says. The
digest catches one that was altered, or that is used with another request.
"""

import base64
import binascii
import hashlib
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

from parley_server.core.errors import InvalidPageToken
from parley_server.core.model import (
    ConversationCursor,
    ExportCursor,
    FeedCursor,
    FeedPlace,
    FeedScope,
    Owner,
)

_VERSION = 1
_DIGEST_BYTES = 16
_EXPORT = "ExportConversations"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def encode_sequence(owner: Owner, request: str, sequence: int) -> str:
    """Return the token of a page of messages that ended at this sequence.

    Args:
        request: every argument that has to be the same for the next page, as text.
    """
    return _encode(owner.id, request, struct.pack(">q", sequence))


def decode_sequence(owner: Owner, request: str, token: str) -> int:
    """Return the sequence in a token of `encode_sequence`.

    Raises: InvalidPageToken.
    """
    sequence: int = struct.unpack(">q", _decode(owner.id, request, token, 8))[0]
    return sequence


def encode_conversation(owner: Owner, request: str, cursor: ConversationCursor) -> str:
    """Return the token of a page of conversations that ended at this one."""
    microseconds = (cursor.update_time - _EPOCH) // _MICROSECOND
    return _encode(owner.id, request, struct.pack(">q16s", microseconds, cursor.id.bytes))


def decode_conversation(owner: Owner, request: str, token: str) -> ConversationCursor:
    """Return the cursor in a token of `encode_conversation`.

    Raises: InvalidPageToken.
    """
    microseconds, identity = struct.unpack(">q16s", _decode(owner.id, request, token, 24))
    try:
        update_time = _EPOCH + microseconds * _MICROSECOND
    except OverflowError:
        raise InvalidPageToken from None
    return ConversationCursor(update_time, UUID(bytes=identity))


def encode_export(owner: Owner, cursor: ExportCursor) -> str:
    """Return the cursor of an export as callers are given it."""
    body = struct.pack(">16sq", cursor.conversation_id.bytes, cursor.sequence)
    return _encode(owner.id, _EXPORT, body)


def decode_export(owner: Owner, token: str) -> ExportCursor:
    """Return the cursor in a token of `encode_export`.

    Raises: InvalidPageToken.
    """
    identity, sequence = struct.unpack(">16sq", _decode(owner.id, _EXPORT, token, 24))
    return ExportCursor(UUID(bytes=identity), sequence)


def encode_feed(scope: FeedScope, cursor: FeedCursor) -> str:
    """Return the cursor of a place in a feed, which is valid with any labels."""
    xid, turn_id = cursor.place
    place = struct.pack(">16sq16s", cursor.epoch.bytes, xid, turn_id.bytes)
    return _encode(scope.id, "WatchTurns", place)


def decode_feed(scope: FeedScope, token: str) -> FeedCursor:
    """Return the cursor in a token of `encode_feed`.

    Raises: InvalidPageToken.
    """
    epoch, xid, turn = struct.unpack(">16sq16s", _decode(scope.id, "WatchTurns", token, 40))
    return FeedCursor(UUID(bytes=epoch), FeedPlace(xid, UUID(bytes=turn)))


def _encode(owner_id: UUID, request: str, cursor: bytes) -> str:
    body = bytes([_VERSION]) + cursor
    return base64.urlsafe_b64encode(body + _digest(owner_id, request, body)).decode().rstrip("=")


def _decode(owner_id: UUID, request: str, token: str, cursor_bytes: int) -> bytes:
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidPageToken from None
    body = data[:-_DIGEST_BYTES]
    if len(body) != 1 + cursor_bytes or token != _encode(owner_id, request, body[1:]):
        raise InvalidPageToken
    return body[1:]


def _digest(owner_id: UUID, request: str, body: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in (owner_id.bytes, request.encode(), body):
        digest.update(struct.pack(">I", len(part)))
        digest.update(part)
    return digest.digest()
