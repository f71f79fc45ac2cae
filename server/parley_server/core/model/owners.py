"""Owners: whose data it is, and what users and tenants may be called."""

import re
import uuid
from datetime import datetime
from typing import NamedTuple, TypeGuard
from uuid import UUID

MAX_NAME_BYTES = 255

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")

OWNER_NAMESPACE = UUID("6b1f0d3c-2f0e-5c43-9a53-0f4d5a1c7e11")
"""Fixed for ever: every stored row depends on it."""


class Owner(NamedTuple):
    """Whose data it is: a verified token's user, or the one that such a token may act for."""

    tenant: str
    """Empty in a deployment without tenants."""
    user: str
    id: UUID

    @classmethod
    def of(cls, tenant: str, user: str) -> "Owner":
        """Return the owner of this tenant and user.

        Guarantees: a pure function; the length in front keeps ("ab", "c") and ("a", "bc") apart.
        """
        name = f"{len(tenant.encode())}:{tenant}{user}"
        return cls(tenant, user, uuid.uuid5(OWNER_NAMESPACE, name))


class Principal(NamedTuple):
    """Who makes a call."""

    owner: Owner
    scopes: frozenset[str] | None
    """None: the token is not restricted."""

    def names(self, scope: str) -> bool:
        """Say whether the token names a scope; one that is not restricted names none."""
        return self.scopes is not None and scope in self.scopes


class Erasure(NamedTuple):
    """The removal of everything that an owner had when it began, and what it has removed so far."""

    owner_id: UUID
    request_id: str
    start_time: datetime
    """What was created later stays, but for forks of what was there."""
    hide_time: datetime | None
    """Since when no call finds anything of it."""
    end_time: datetime | None
    """When everything was gone; None: it is under way."""
    conversations: int
    messages: int
    turns: int


class Removed(NamedTuple):
    """What a batch of an erasure has removed."""

    messages: int
    rest: UUID | None
    """The highest id of a conversation that may have more to remove; None: all are done."""


def is_name(value: object) -> TypeGuard[str]:
    """Say whether a user or a tenant may be called this.

    Returns: True for a string of 1 to 255 bytes of UTF-8 that is not blank and has no control
        characters (Unicode's Cc) and no lone surrogates. Names are compared byte by byte.
    """
    if not isinstance(value, str) or not value.strip() or _CONTROL_CHARACTER.search(value):
        return False
    try:
        return len(value.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False
