"""What is known of the call under way: who makes it, and what its log line will say."""

import random
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

from parley_server.core.errors import ScopeMissing, Unauthenticated
from parley_server.core.model import Owner, Principal

READ = "parley.read"
WRITE = "parley.write"
ACT = "parley.act"
ERASE = "parley.erase"
OBSERVE = "parley.observe"
SCOPES = (READ, WRITE, ACT, ERASE, OBSERVE)
"""What a token may name; other scopes in it are for others."""


@dataclass(slots=True)
class CallRecord:
    """One RPC."""

    id: str = field(default_factory=lambda: f"{random.getrandbits(64):016x}")
    """The call id: names the RPC in the logs and in RequestInfo."""
    caller: Principal | None = None
    """Who makes it; of one that acts for a user, that user with the caller's scopes."""
    acting: Owner | None = None
    """Who the token's own user is, while it acts for another one."""
    request_id: str = ""
    turn_id: str = ""
    conversation_id: str = ""
    """Of a call that creates, changes or deletes one, so that it can be found in the logs."""
    shown_id: str = ""
    """The conversation of a call that goes on with one or reads it: for traces alone."""
    is_repeatable: bool = True
    """False: it may have opened a turn that has no request id, and would open another one."""

    @property
    def owner_id(self) -> UUID:
        """Whose share of the worker this call takes from, once its token is checked."""
        if self.caller is None:
            raise Unauthenticated
        return self.caller.owner.id

    def ids(self) -> dict[str, str]:
        """Return what the call is about, as far as it is known by now."""
        known = {
            "request_id": self.request_id,
            "conversation_id": self.conversation_id,
            "turn_id": self.turn_id,
        }
        return {name: value for name, value in known.items() if value}

    def traced_ids(self) -> dict[str, str]:
        """Return the same for a trace, in which calls are found by their conversation."""
        shown = {"conversation_id": self.shown_id} if self.shown_id else {}
        return {"call_id": self.id, **shown, **self.ids()}

    def owner(self, scope: str) -> Owner:
        """Return whose data this call is about.

        Raises: ScopeMissing: the caller's token is held to scopes and lacks this one.
        """
        if self.caller is None:
            raise Unauthenticated
        if self.caller.scopes is not None and scope not in self.caller.scopes:
            raise ScopeMissing(scope)
        return self.caller.owner

    def owner_by_name(self, scope: str) -> Owner:
        """Return whose data this call is about. A token without scopes does not have this one.

        Raises: ScopeMissing: the caller's token does not name the scope.
        """
        if self.caller is None:
            raise Unauthenticated
        if not self.caller.names(scope):
            raise ScopeMissing(scope)
        return self.caller.owner


current_call: ContextVar[CallRecord] = ContextVar("current_call")
