"""Callers that act for users: who may, for whom, and that nothing else in metadata counts.

Each check was taken out once, and a test here failed: the scope, its absence from unrestricted
tokens, the single name, the rules for names, the tenant.
"""

from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import InvalidRequest
from parley_server.core.model import Owner, Principal, is_name
from parley_server.rpc.layers.authentication import acting_for
from support import bad_tokens
from support.bad_tokens import MISSING
from support.services import (
    AUDIENCE,
    ISSUER,
    SECRET,
    Service,
    StartService,
    a_token,
    details_of,
    info_of,
)

READ, WRITE, ACT = "parley.read", "parley.write", "parley.act"
ALL = f"{READ} {WRITE} {ACT}"
NAMES = [
    "ada",
    "Jürgen",
    "李 小龙",
    "ada@example.com",
    "auth0|5f7c",
    "100%",
    "%41",
    " a ",
    "a,b",
    "\U0001f469",
    "x" * 255,
    "\u00fc" * 127,
]
BAD = {
    "empty": "",
    "blank": "%20%20",
    "blank beyond ASCII": quote("\u2003\u00a0"),
    "with NUL": "ali%00ce",
    "with a line end": "alice%0A",
    "with DEL": "alice%7F",
    "with a C1 control": quote("ali\x85ce"),
    "of 256 bytes": "x" * 256,
    "of 128 characters and 256 bytes": quote("\u00fc" * 128),
    "with a space as it is": "ada lovelace",
    "cut in an escape": "alice%4",
    "with a lone percent sign": "100%",
    "with letters that are no hexadecimal": "%zz",
    "no UTF-8": "%FF",
    "a lone surrogate": "%ED%A0%80",
    "UTF-8 longer than it has to be": "%C0%80",
}


def token(sub: str = "backend", **claims: Any) -> str:
    return bad_tokens.a_token(
        SECRET.encode(), ISSUER, AUDIENCE, claims={"sub": sub, "scope": ALL} | claims
    )


def headers(token: str, *users: str, **more: str) -> tuple[tuple[str, str], ...]:
    return (
        ("authorization", f"Bearer {token}"),
        *(("parley-user", user) for user in users),
        *more.items(),
    )


async def chat(service: Service, metadata: Any, **fields: Any) -> pb.ChatResponse:
    request = pb.ChatRequest(message="hello", **fields)
    return await service.stub.Chat(request, metadata=metadata, timeout=20)


async def listed(service: Service, metadata: Any) -> list[str]:
    request = pb.ListConversationsRequest()
    answer = await service.stub.ListConversations(request, metadata=metadata, timeout=20)
    return [conversation.conversation_id for conversation in answer.conversations]


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("user", NAMES)
async def test_caller_acts_for_the_user_that_it_names(service: Service, user: str) -> None:
    """The user's own token sees the same conversations; the caller's own does not."""
    mine = await chat(service, headers(token()))
    theirs = await chat(service, headers(token(), quote(user)))

    assert [theirs.conversation_id] == await listed(service, headers(token(), quote(user, safe="")))
    assert [theirs.conversation_id] == await listed(service, headers(a_token(user)))
    assert [mine.conversation_id] == await listed(service, headers(token()))
    error = await failure(
        chat(service, headers(token(), "another"), conversation_id=theirs.conversation_id)
    )
    assert "CONVERSATION_NOT_FOUND" == info_of(error).reason


async def test_caller_acts_within_its_tenant_only(start_service: StartService) -> None:
    service = await start_service(auth_tenant_claim="org")
    theirs = await chat(service, headers(token(org="acme"), "ada"))

    assert [theirs.conversation_id] == await listed(service, headers(token("ada", org="acme")))
    assert [] == await listed(service, headers(token("ada", org="umbrella")))
    assert [] == await listed(service, headers(token(org="umbrella"), "ada"))


@pytest.mark.parametrize(
    "scope", [MISSING, "", READ, f"{READ} {WRITE}", "parley.actor", "PARLEY.ACT", "parley.act,x"]
)
@pytest.mark.parametrize("user", ["ada", "backend", "", "%zz"])
async def test_acting_needs_its_scope_by_name(service: Service, scope: Any, user: str) -> None:
    """Also of a token without scopes, which may do everything else, and for its own user."""
    error = await failure(chat(service, headers(token(scope=scope), user)))

    assert grpc.StatusCode.PERMISSION_DENIED == error.code()
    assert ("SCOPE_MISSING", {"scope": ACT}) == (
        info_of(error).reason,
        dict(info_of(error).metadata),
    )


async def test_acting_replaces_no_other_scope(service: Service) -> None:
    for scope, call, missing in (
        (ACT, chat, WRITE),
        (f"{ACT} {READ}", chat, WRITE),
        (f"{ACT} {WRITE}", listed, READ),
    ):
        error = await failure(call(service, headers(token(scope=scope), "ada")))
        assert {"scope": missing} == dict(info_of(error).metadata)
    await chat(service, headers(token(scope=f"{ACT} {WRITE}"), "ada"))
    await listed(service, headers(token(scope=f"{ACT} {READ}"), "ada"))


@pytest.mark.parametrize("users", [("ada", "bob"), ("ada", "ada"), ("", "ada"), ("a", "b", "c")])
async def test_two_users_are_refused(service: Service, users: tuple[str, ...]) -> None:
    error = await failure(chat(service, headers(token(), *users)))

    assert grpc.StatusCode.INVALID_ARGUMENT == error.code()
    assert "INVALID_REQUEST" == info_of(error).reason
    assert (error.details() or "").startswith("parley-user: this metadata must be sent once")


@pytest.mark.parametrize("name", BAD)
async def test_user_that_cannot_be_one_is_refused(service: Service, name: str) -> None:
    error = await failure(chat(service, headers(token(), BAD[name])))

    assert grpc.StatusCode.INVALID_ARGUMENT == error.code()
    (bad,) = [d for d in details_of(error) if isinstance(d, BadRequest)]
    (violation,) = bad.field_violations
    assert ("parley-user", "BAD_USER") == (violation.field, violation.reason)
    assert "1 to 255 bytes of UTF-8" in violation.description


async def test_token_comes_before_the_user(service: Service) -> None:
    for bad in ("bad", token()[:-2], token(exp=1)):
        error = await failure(chat(service, headers(bad, "%zz", "ada")))
        assert "UNAUTHENTICATED" == info_of(error).reason


async def test_no_other_metadata_is_believed(service: Service) -> None:
    """What proxies and gateways set, and what one may take for ours."""
    claims = bad_tokens.base64url(b'{"sub":"ada","scope":"parley.act"}')
    others = {
        "x-forwarded-client-cert": 'By=spiffe://a;Hash=0;Subject="CN=ada";URI=spiffe://a/ada',
        "x-jwt-payload": claims,
        "x-endpoint-api-userinfo": claims,
        "x-apigateway-api-userinfo": claims,
        "x-forwarded-user": "ada",
        "x-forwarded-email": "ada@example.com",
        "x-forwarded-preferred-username": "ada",
        "x-forwarded-access-token": a_token("ada"),
        "x-auth-request-user": "ada",
        "x-auth-request-access-token": a_token("ada"),
        "x-remote-user": "ada",
        "remote-user": "ada",
        "x-user": "ada",
        "x-user-id": "ada",
        "x-tenant-id": "acme",
        "x-goog-authenticated-user-id": "ada",
        "x-amzn-oidc-identity": "ada",
        "x-ms-client-principal-name": "ada",
        "x-scope": ALL,
        "x-authorization": f"Bearer {a_token('ada')}",
        "proxy-authorization": f"Bearer {a_token('ada')}",
        "grpc-metadata-authorization": f"Bearer {a_token('ada')}",
        "cookie": f"authorization=Bearer {a_token('ada')}; parley-user=ada",
        "parley-users": "ada",
        "parley-tenant": "acme",
        "parley-scope": ALL,
        "x-parley-user": "ada",
        "parley_user": "ada",
    }
    await chat(service, headers(a_token("ada")))
    mine = await chat(service, headers(a_token("bob")))
    for name, value in others.items():
        for own in (a_token("bob"), token("bob")):
            seen = await listed(service, headers(own, **{name: value}))
            assert [mine.conversation_id] == seen, name
    assert [mine.conversation_id] == await listed(service, headers(a_token("bob"), **others))
    in_bytes = (*headers(token("bob")), ("parley-user-bin", b"ada"))
    assert [mine.conversation_id] == await listed(service, in_bytes)
    error = await failure(listed(service, tuple(others.items())))
    assert "UNAUTHENTICATED" == info_of(error).reason


async def test_log_line_has_both_identities_and_no_name(service: Service) -> None:
    with capture_logs() as logs:
        await chat(service, headers(token("the-backend"), "the-user"))
        await chat(service, headers(token("the-backend")))
        await failure(chat(service, headers(token("the-backend"), "")))
    acting, alone, refused = (line for line in logs if line["event"] == "call")

    backend, user = str(Owner.of("", "the-backend").id), str(Owner.of("", "the-user").id)
    assert (user, backend) == (acting["owner_id"], acting["acting_owner_id"])
    for line in (alone, refused):
        assert backend == line["owner_id"]
        assert "acting_owner_id" not in line
    assert "the-" not in str(logs)


BACKEND = Principal(Owner.of("acme", "backend"), frozenset({ACT}))


@given(st.text(max_size=90))
def test_every_name_can_be_sent_and_no_other_text(name: str) -> None:
    sent = quote(name.encode(errors="surrogatepass"), safe="")
    if is_name(name):
        expected = Principal(Owner.of("acme", name), frozenset({ACT}))
        assert expected == acting_for(BACKEND, [sent])
    else:
        with pytest.raises(InvalidRequest):
            acting_for(BACKEND, [sent])


@given(st.binary() | st.text() | st.text(st.sampled_from("%0aZ")))
def test_no_value_raises_anything_else(value: Any) -> None:
    try:
        caller = acting_for(BACKEND, [value])
    except InvalidRequest:
        return
    assert is_name(caller.owner.user)
