"""Who calls, and for whom: the bearer token, and the user that a backend acts for."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from parley_server.core.errors import InvalidRequest, ScopeMissing, Unauthenticated, Violation
from parley_server.core.model import MAX_NAME_BYTES, Owner, Principal, is_name
from parley_server.core.ports import TokenVerifier
from parley_server.rpc.layers.call_record import ACT, current_call
from parley_server.rpc.layers.types import Context, Metadata, Method

USER = "parley-user"
"""The metadata that names the user: percent-encoded UTF-8, since gRPC's text metadata is ASCII."""

_ENCODED = re.compile(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")
_ONCE = Violation(USER, "NOT_ONCE", "this metadata must be sent once: a call acts for one user")
_BAD_USER = Violation(
    USER,
    "BAD_USER",
    f"this metadata must name a user in 1 to {MAX_NAME_BYTES} bytes of UTF-8, not blank, without "
    "control characters; percent-encode % and everything except visible ASCII: J%C3%BCrgen",
)


def authenticated(verifier: TokenVerifier, method: Method) -> Method:
    """Learn who calls, from the one bearer token, and for whom. No other metadata is believed."""

    async def with_caller(request: Any, context: Context) -> Any:
        call = current_call.get()
        metadata = context.invocation_metadata() or ()
        call.caller = caller = await verifier.verify(_bearer_token(metadata))
        if users := [value for key, value in metadata if key == USER]:
            call.caller = acting_for(caller, users)
            call.acting = caller.owner
        return await method(request, context)

    return with_caller


def _bearer_token(metadata: Metadata) -> str:
    tokens = [value for key, value in metadata if key == "authorization"]
    if len(tokens) != 1 or not isinstance(tokens[0], str):
        raise Unauthenticated
    scheme, _, token = tokens[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    return token


def acting_for(caller: Principal, users: Sequence[str | bytes]) -> Principal:
    """Return the caller as it acts for a user of its own tenant, with its own scopes.

    Args:
        users: what came under the metadata's name, one or more.
    Raises:
        ScopeMissing: the token does not name the scope; one without scopes does not either.
        InvalidRequest: there are several, or it is no name.
    """
    if not caller.names(ACT):
        raise ScopeMissing(ACT)
    if len(users) != 1:
        raise InvalidRequest([_ONCE])
    user = _decoded(users[0])
    if not is_name(user):
        raise InvalidRequest([_BAD_USER])
    return Principal(Owner.of(caller.owner.tenant, user), caller.scopes)


def _decoded(value: str | bytes) -> str | None:
    if not isinstance(value, str) or not _ENCODED.fullmatch(value):
        return None
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        return None
