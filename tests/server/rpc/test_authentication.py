"""Who may call what, through the whole edge. The verifier's own rules: tests/server/auth."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from parley.v1 import conversation_service_pb2 as pb
from support import bad_tokens
from support.messages import user as said_by_user
from support.services import (
    AUDIENCE,
    ISSUER,
    SECRET,
    Service,
    StartService,
    a_token,
    an_id,
    details_of,
    info_of,
)

READS, WRITES = "parley.read", "parley.write"
MAX_TOKEN_BYTES = 8192

Headers = Iterable[tuple[str, str | bytes]]


def bearer(token: str) -> Headers:
    return (("authorization", f"Bearer {token}"),)


def a_good_token(**claims: Any) -> str:
    return bad_tokens.a_token(SECRET.encode(), ISSUER, AUDIENCE, claims=claims)


async def call(
    service: Service, method: str, request: Message, headers: Headers
) -> Any | grpc.aio.AioRpcError:
    """Return the answer, a stream's first one, or the error."""
    made = getattr(service.stub, method)(request, metadata=tuple(headers), timeout=10)
    try:
        if not hasattr(made, "read"):
            return await made
        first = await made.read()
        made.cancel()
        return first
    except grpc.aio.AioRpcError as error:
        return error


GIVEN = pb.CallResult(call_key=str(UUID(int=7)), result="x")


def a_request_of_each(conversation_id: str, turn_id: str) -> dict[str, Message]:
    named = {"conversation_id": conversation_id, "turn_id": turn_id}
    return {
        "Chat": pb.ChatRequest(message="hello"),
        "StreamChat": pb.StreamChatRequest(chat=pb.ChatRequest(message="hello")),
        "CancelTurn": pb.CancelTurnRequest(**named),
        "ResumeTurn": pb.ResumeTurnRequest(**named, results=[GIVEN]),
        "StreamResumeTurn": pb.StreamResumeTurnRequest(
            resume=pb.ResumeTurnRequest(**named, results=[GIVEN])
        ),
        "GetTurn": pb.GetTurnRequest(**named),
        "GetHistory": pb.GetHistoryRequest(conversation_id=conversation_id),
        "ListConversations": pb.ListConversationsRequest(),
        "WatchConversation": pb.WatchConversationRequest(conversation_id=conversation_id),
        "AppendMessages": pb.AppendMessagesRequest(
            conversation_id=conversation_id, messages=[said_by_user("hello")]
        ),
        "ForkConversation": pb.ForkConversationRequest(conversation_id=conversation_id),
        "ExportConversations": pb.ExportConversationsRequest(),
    }


SCOPES = {
    "Chat": WRITES,
    "StreamChat": WRITES,
    "CancelTurn": WRITES,
    "ResumeTurn": WRITES,
    "StreamResumeTurn": WRITES,
    "GetTurn": READS,
    "GetHistory": READS,
    "ListConversations": READS,
    "WatchConversation": READS,
    "AppendMessages": WRITES,
    "ForkConversation": WRITES,
    "ExportConversations": READS,
}


def told(error: Any) -> tuple[Any, ...]:
    """Return everything that a caller can see of an error."""
    assert isinstance(error, grpc.aio.AioRpcError), f"answered: {error!r}"
    return error.code(), error.details(), tuple(error.trailing_metadata() or ())


def is_unauthenticated(error: Any) -> bool:
    if not isinstance(error, grpc.aio.AioRpcError):
        return False
    seen = error.code().name, info_of(error).reason, len(details_of(error))
    return ("UNAUTHENTICATED", "UNAUTHENTICATED", 1) == seen


async def test_every_bad_token_is_refused_in_the_same_words(
    service: Service, database_url: str
) -> None:
    """Fails when a cause is told: then whoever tries tokens learns from each of them."""
    good = a_token()
    basic = "Basic YWRhOmxvdmVsYWNl"
    cases: dict[str, Headers] = {
        name: bearer(token)
        for name, token in bad_tokens.bad_tokens(SECRET.encode(), ISSUER, AUDIENCE).items()
    } | {
        "no header": (),
        "an empty header": (("authorization", ""),),
        "a scheme alone": (("authorization", "Bearer"),),
        "a scheme and a space": (("authorization", "Bearer "),),
        "no scheme": (("authorization", good),),
        "another scheme": (("authorization", basic),),
        "another scheme with a good token": (("authorization", f"Basic {good}"),),
        "a longer scheme": (("authorization", f"Bearers {good}"),),
        "a colon": (("authorization", f"Bearer: {good}"),),
        "another header": (("x-authorization", f"Bearer {good}"),),
        "bytes": (("authorization-bin", f"Bearer {good}".encode()),),
        "the same header twice": (*bearer(good), *bearer(good)),
        "two headers, the first good": (*bearer(good), *bearer("bad")),
        "two headers, the last good": (*bearer("bad"), *bearer(good)),
        "two headers of two users": (*bearer(good), *bearer(a_token("bob"))),
        "two tokens in a header": (("authorization", f"Bearer {good}, Bearer {good}"),),
        "something behind": (("authorization", f"Bearer {good} x"),),
    }
    seen = {}
    for name, headers in cases.items():
        error = await call(service, "Chat", pb.ChatRequest(message="hello"), headers)
        assert is_unauthenticated(error), name
        seen[told(error)] = name

    assert 1 == len(seen), seen.values()
    with psycopg.connect(database_url) as connection:
        assert (0,) == connection.execute("SELECT count(*) FROM conversation").fetchone()


async def test_no_method_is_open_to_a_bad_token(service: Service) -> None:
    answer = await service.chat()
    seen = set()
    for method, request in a_request_of_each(answer.conversation_id, answer.turn_id).items():
        for headers in ((), bearer(a_token()[:-2])):
            error = await call(service, method, request, headers)
            assert is_unauthenticated(error), method
            seen.add(told(error))

    assert 1 == len(seen)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_scheme_may_be_in_any_letters(service: Service, scheme: str) -> None:
    headers = (("authorization", f"{scheme} {a_token()}"),)
    answer = await call(service, "Chat", pb.ChatRequest(message="hello"), headers)

    assert isinstance(answer, pb.ChatResponse)


async def test_token_of_eight_kibibytes_is_taken(service: Service) -> None:
    """The other side of the limit: the corpus of bad tokens has one that is a byte too long."""
    sizes = range(MAX_TOKEN_BYTES * 3 // 4 - 300, MAX_TOKEN_BYTES)
    tokens = (a_good_token(filler="x" * size) for size in sizes)
    token = next(t for t in tokens if len(t) >= MAX_TOKEN_BYTES - 1)
    answer = await call(service, "ListConversations", pb.ListConversationsRequest(), bearer(token))

    assert MAX_TOKEN_BYTES >= len(token)
    assert isinstance(answer, pb.ListConversationsResponse)


async def test_health_needs_no_token(service: Service) -> None:
    check = service.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answer = await check(health_pb2.HealthCheckRequest(), timeout=10)

    assert health_pb2.HealthCheckResponse.SERVING == answer.status


# Scopes


def is_refused(answer: Any) -> bool:
    """Whether a call was not let in. One that resumes a turn finds one that never waited."""
    if not isinstance(answer, grpc.aio.AioRpcError):
        return False
    return info_of(answer).reason != "CALL_NOT_PENDING"


async def may(service: Service, token: str) -> dict[str, bool]:
    """Return which methods a token may call. For the others it is told which scope it lacks."""
    first = await service.chat()
    found = {}
    for method, request in a_request_of_each(first.conversation_id, first.turn_id).items():
        answer = await call(service, method, request, bearer(token))
        if is_refused(answer):
            assert grpc.StatusCode.PERMISSION_DENIED == answer.code(), method
            assert ("SCOPE_MISSING", {"scope": SCOPES[method]}) == (
                info_of(answer).reason,
                dict(info_of(answer).metadata),
            )
            assert 1 == len(details_of(answer))
            found[method] = False
        else:
            found[method] = True
    return found


async def test_scope_decides_which_methods_may_be_called(service: Service) -> None:
    """Fails when a scope is looked for in the text instead of among its words."""
    for scope, may_read, may_write in (
        (READS, True, False),
        (WRITES, False, True),
        (f"{READS} {WRITES}", True, True),
        (f"openid {WRITES}  profile", False, True),
        ("openid", False, False),
        ("", False, False),
        ("parley", False, False),
        ("parley.*", False, False),
        (f"{READS}s {WRITES}.all", False, False),
        (f"{READS},{WRITES}", False, False),
        (READS.upper(), False, False),
        (bad_tokens.MISSING, True, True),
    ):
        expected = {m: may_read if s == READS else may_write for m, s in SCOPES.items()}
        assert expected == await may(service, a_good_token(sub="ada", scope=scope)), scope


async def test_scopes_can_be_required_of_every_token(start_service: StartService) -> None:
    """Fails when PARLEY_AUTH_REQUIRE_SCOPES is not passed on."""
    service = await start_service(auth_require_scopes=True)
    everything = f"{READS} {WRITES}"
    first = await call(
        service, "Chat", pb.ChatRequest(message="hello"), bearer(a_token(scope=everything))
    )

    requests = a_request_of_each(first.conversation_id, first.turn_id)
    for method, request in requests.items():
        refused = await call(service, method, request, bearer(a_token()))
        assert isinstance(refused, grpc.aio.AioRpcError), method
        assert ("PERMISSION_DENIED", "SCOPE_MISSING") == (
            refused.code().name,
            info_of(refused).reason,
        )
        answer = await call(service, method, request, bearer(a_token(scope=SCOPES[method])))
        assert not is_refused(answer), method


async def test_token_comes_before_scope_before_fields_before_what_is_there(
    service: Service,
) -> None:
    bad_fields = pb.ChatRequest(message=" ", conversation_id=an_id())
    absent = pb.ChatRequest(message="hello", conversation_id=an_id())
    bad_token = bearer("bad")
    reader, writer = bearer(a_token(scope=READS)), bearer(a_token(scope=WRITES))
    expected = [
        ("UNAUTHENTICATED", bad_fields, bad_token),
        ("PERMISSION_DENIED", bad_fields, reader),
        ("PERMISSION_DENIED", absent, reader),
        ("INVALID_ARGUMENT", bad_fields, writer),
        ("NOT_FOUND", absent, writer),
    ]
    for code, request, headers in expected:
        error = await call(service, "Chat", request, headers)
        assert isinstance(error, grpc.aio.AioRpcError)
        assert code == error.code().name


# Keys


async def test_public_keys_from_a_file_are_what_tokens_are_checked_with(
    start_service: StartService, tmp_path: Path
) -> None:
    """Fails when a token may choose its algorithm: the public key then makes a good HMAC secret."""
    mine, another = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    public = mine.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    keys_file = tmp_path / "keys.pem"
    keys_file.write_bytes(public)
    service = await start_service(auth_hs256_secret=None, auth_keys_file=keys_file)
    claims = jwt.decode(a_token("ada"), options={"verify_signature": False})
    request = pb.ChatRequest(message="hello", request_id="r")

    good = await call(service, "Chat", request, bearer(jwt.encode(claims, mine, "RS256")))
    assert "HELLO" == good.response
    der = mine.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for name, token in {
        "of another key": jwt.encode(claims, another, "RS256"),
        "of this key with another algorithm": jwt.encode(claims, mine, "PS256"),
        "with RS512": jwt.encode(claims, mine, "RS512"),
        "with the public key as a secret": bad_tokens.a_token(public, ISSUER, AUDIENCE),
        "with it as a secret, in other bytes": bad_tokens.a_token(der, ISSUER, AUDIENCE),
        "with the secret of before": a_token(),
        "not signed": jwt.encode(claims, None, "none"),
    }.items():
        assert is_unauthenticated(await call(service, "Chat", request, bearer(token))), name


# Tenants


async def test_tenant_is_part_of_the_owner(start_service: StartService) -> None:
    """Fails when the claim is not read, and when tenant and user are joined without a mark."""
    service = await start_service(auth_tenant_claim="org")
    owners = [("ab", "c"), ("a", "bc"), ("abc", "x"), ("acme", "ada"), ("umbrella", "ada")]
    request = pb.ChatRequest(message="hello", request_id="r")
    answers = [
        await call(service, "Chat", request, bearer(a_good_token(sub=user, org=tenant)))
        for tenant, user in owners
    ]

    assert len(owners) == len({answer.conversation_id for answer in answers})
    for (tenant, user), answer in zip(owners, answers, strict=True):
        headers = bearer(a_good_token(sub=user, org=tenant))
        listed = await call(service, "ListConversations", pb.ListConversationsRequest(), headers)
        assert [answer.conversation_id] == [c.conversation_id for c in listed.conversations]


async def test_tenant_claim_has_to_be_there_and_good(start_service: StartService) -> None:
    service = await start_service(auth_tenant_claim="org")
    request = pb.ChatRequest(message="hello")
    bad = {**bad_tokens.BAD_NAMES, "missing": bad_tokens.MISSING}
    seen = {}
    for name, tenant in bad.items():
        error = await call(service, "Chat", request, bearer(a_good_token(org=tenant)))
        assert is_unauthenticated(error), name
        seen[told(error)] = name
    no_token = await call(service, "Chat", request, ())

    assert {told(no_token)} == set(seen)


async def test_claims_that_are_not_configured_do_not_count(service: Service) -> None:
    """Who calls is `sub` alone; a tenant that nobody asked for makes no other owner."""
    answer = await service.chat("hello", user="ada")
    for claims in ({"org": "acme"}, {"tenant": "acme"}, {"user": "bob"}, {"azp": "x"}):
        headers = bearer(a_good_token(sub="ada", **claims))
        listed = await call(service, "ListConversations", pb.ListConversationsRequest(), headers)
        assert [answer.conversation_id] == [c.conversation_id for c in listed.conversations]
