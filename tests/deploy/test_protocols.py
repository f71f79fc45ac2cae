"""One port for gRPC, gRPC-Web and JSON: deploy/envoy/envoy.yaml before two server processes."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx2 as httpx
import psycopg
import pytest
import pytest_asyncio
import trustme
import yaml
from google.rpc import error_details_pb2, status_pb2

from parley.v1 import conversation_service_pb2 as pb
from parley_server.config import Settings
from support.databases import a_database
from support.envoys import CONFIG, Caller, Envoy, with_tls
from support.processes import ServerProcess
from support.scripted_server import an_answer, scripted
from support.services import a_token, an_id, info_of, metadata

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICE = "parley.v1.ConversationService"
NOBODYS = "018f0000-0000-7000-8000-000000000001"
OWN_PAGE = "https://app.example"


class Deployment:
    """Two workers with one database, and Envoy in front of them."""

    def __init__(self, envoy: Envoy, workers: list[ServerProcess], database_url: str) -> None:
        self.envoy = envoy
        self.ports = [worker.port for worker in workers]
        self.database_url = database_url
        self.http = httpx.AsyncClient(base_url=f"http://{envoy.address}", timeout=30)

    async def json(self, method: str, path: str, *, user: str = "ada", **more: Any) -> Any:
        return await self.http.request(method, path, headers=dict(metadata(user)), **more)

    async def grpc_web(
        self, name: str, request: Any, **headers: str
    ) -> tuple[bytes, dict[str, str]]:
        """Make a call as a browser does. Returns: the message's bytes, and the trailers."""
        data = request.SerializeToString()
        response = await self.http.post(
            f"/{SERVICE}/{name}",
            content=b"\0" + len(data).to_bytes(4, "big") + data,
            headers={
                "content-type": "application/grpc-web+proto",
                **dict(metadata("ada")),
                **headers,
            },
        )
        assert 200 == response.status_code
        message, trailers, rest = b"", dict(response.headers), response.content
        while rest:
            flags, size = rest[0], int.from_bytes(rest[1:5], "big")
            frame, rest = rest[5 : 5 + size], rest[5 + size :]
            if flags & 0x80:
                lines = frame.decode().strip().split("\r\n")
                trailers |= dict(line.split(":", 1) for line in lines)
            else:
                message = frame
        return message, trailers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployed(
    postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    folder = tmp_path_factory.mktemp("envoy")
    with (
        a_database(postgres_url, template) as url,
        ServerProcess(url, trash_days=1) as first,
        ServerProcess(url, trash_days=1) as second,
    ):
        async with Envoy(folder, [first.port, second.port]) as envoy:
            await envoy.until_healthy(first.port, second.port)
            deployment = Deployment(envoy, [first, second], url)
            yield deployment
            await deployment.http.aclose()
            for worker in (first, second):
                await worker.channel.close(None)


async def test_calls_of_one_connection_are_spread_over_both_workers(deployed: Deployment) -> None:
    before = deployed.envoy.calls_of_workers()
    async with Caller(deployed.envoy.address) as caller:
        calls = [
            caller.stub.Chat(
                pb.ChatRequest(message="hello", request_id=an_id()), metadata=metadata("ada")
            )
            for _ in range(40)
        ]
        answers = [await call for call in calls]

    assert ["hello"] * 40 == [answer.response for answer in answers]
    shares = deployed.envoy.calls_of_workers() - before
    assert set(deployed.ports) == set(shares)
    assert min(shares.values()) >= 5


async def test_more_calls_at_once_than_connections_take_are_all_answered(
    deployed: Deployment,
) -> None:
    """A connection to a worker takes a hundred; a caller's takes thousands."""
    async with Caller(deployed.envoy.address) as caller:
        answers = await asyncio.gather(
            *(
                caller.stub.Chat(pb.ChatRequest(message=f"{n}"), metadata=metadata(f"u{n % 50}"))
                for n in range(700)
            )
        )
    assert [f"{n}" for n in range(700)] == [answer.response for answer in answers]


async def test_stream_arrives_event_by_event(deployed: Deployment) -> None:
    async with Caller(deployed.envoy.address) as caller:
        request = pb.StreamChatRequest(chat=pb.ChatRequest(message="x" * 1000, request_id=an_id()))
        events = [e async for e in caller.stub.StreamChat(request, metadata=metadata("ada"))]

    kinds = [event.WhichOneof("event") for event in events]
    assert ["started", "chunk", "completed"] == sorted(set(kinds), key=kinds.index)
    assert "x" * 1000 == events[-1].completed.response


async def test_json_makes_and_reads_a_conversation(deployed: Deployment) -> None:
    body = {"message": "hello", "request_id": "json-1"}
    made = await deployed.json("POST", "/v1/conversations:chat", user="json", json=body)
    answer = made.json()
    conversation = answer["conversation_id"]
    history = await deployed.json("GET", f"/v1/conversations/{conversation}/messages", user="json")
    listed = await deployed.json("GET", "/v1/conversations?page_size=5", user="json")

    assert [200] * 3 == [made.status_code, history.status_code, listed.status_code]
    assert "application/json" == made.headers["content-type"]
    # Names as in the protos, int64 as strings, enums by name, fields that are zero too.
    assert ("1", "2") == (answer["user_sequence"], answer["response_sequence"])
    assert ("FINISH_REASON_STOP", False, []) == (
        answer["finish_reason"],
        answer["replayed"],
        answer["tool_calls"],
    )
    messages = history.json()["messages"]
    assert [("1", "hello"), ("2", "hello")] == [(m["sequence"], m["content"]) for m in messages]
    assert ["ROLE_USER", "ROLE_ASSISTANT"] == [m["role"] for m in messages]
    assert "" == history.json()["next_page_token"]
    assert [conversation] == [c["conversation_id"] for c in listed.json()["conversations"]]


async def test_json_with_a_request_id_makes_one_turn(deployed: Deployment) -> None:
    body = {"message": "hello", "requestId": "json-twice"}  # lowerCamelCase is read as well
    first, second = [
        (await deployed.json("POST", "/v1/conversations:chat", user="twice", json=body)).json()
        for _ in range(2)
    ]
    assert (False, True) == (first["replayed"], second["replayed"])
    assert first == {**second, "replayed": False}


async def test_json_starts_a_turn_that_is_run_without_its_caller(deployed: Deployment) -> None:
    identity = an_id()
    body = {"conversation_id": identity, "allow_missing": True, "message": "hello"}
    path, body = "/v1/turns:start", {**body, "request_id": identity, "expectedSequence": "0"}
    started = await deployed.json("POST", path, json=body)
    assert 200 == started.status_code
    turn = started.json()["turn"]
    assert (identity, identity, "TURN_STATE_QUEUED", "0", False) == (
        turn["conversation_id"],
        turn["request_id"],
        turn["state"],
        turn["user_sequence"],
        started.json()["replayed"],
    )

    answer = (await deployed.json("POST", "/v1/conversations:chat", json=body)).json()
    assert (turn["turn_id"], "hello", "2") == (
        answer["turn_id"],
        answer["response"],
        answer["response_sequence"],
    )
    again = (await deployed.json("POST", path, json=body)).json()
    assert (turn["turn_id"], "TURN_STATE_COMPLETED", True) == (
        again["turn"]["turn_id"],
        again["turn"]["state"],
        again["replayed"],
    )
    history = (await deployed.json("GET", f"/v1/conversations/{identity}/messages")).json()
    assert ["hello", "hello"] == [message["content"] for message in history["messages"]]
    refused = await deployed.json("POST", path, json={**body, "message": "another"})
    assert (409, "REQUEST_ID_REUSED") == (
        refused.status_code,
        refused.json()["details"][0]["reason"],
    )


async def test_json_creates_labels_and_lists_conversations(deployed: Deployment) -> None:
    ids = [an_id(), an_id()]
    body = {"request_id": "one", "title": "Plans", "labels": {"team": "blue", "state": "ö=1"}}
    made = [
        await deployed.json(
            "POST", "/v1/conversations", user="labels", json={"conversation_id": ids[0], **body}
        )
        for _ in range(2)
    ]
    other = {"conversationId": ids[1], "labels": {"team": "blue"}, "instructions": "Be brief."}
    await deployed.json("POST", "/v1/conversations", user="labels", json=other)

    assert [200, 200] == [response.status_code for response in made]
    assert [False, True] == [response.json()["replayed"] for response in made]
    conversation = made[0].json()["conversation"]
    assert (ids[0], "Plans", {"team": "blue", "state": "ö=1"}, "1", "0", "") == (
        conversation["conversation_id"],
        conversation["title"],
        conversation["labels"],
        conversation["revision"],
        conversation["last_sequence"],
        conversation["instructions"],
    )

    async def listed(**query: Any) -> list[str]:
        found = await deployed.json("GET", "/v1/conversations", user="labels", params=query)
        assert 200 == found.status_code
        return [c["conversation_id"] for c in found.json()["conversations"]]

    assert ids[::-1] == await listed(labels="team=blue")
    assert ids[:1] == await listed(labels=["team=blue", "state=ö=1"])
    assert [] == await listed(labels=["team=blue", "state="])
    assert ids[1:] == await listed(labels="team=blue", page_size=1)
    assert ids[1:] == await listed(updated_after=conversation["update_time"])
    assert [] == await listed(updated_after="2999-12-31T23:59:59Z")
    read = await deployed.json("GET", f"/v1/conversations/{ids[1]}", user="labels")
    assert "Be brief." == read.json()["conversation"]["instructions"]


async def test_json_updates_a_conversation(deployed: Deployment) -> None:
    identity = an_id()
    path = f"/v1/conversations/{identity}"
    body = {"conversation_id": identity, "labels": {"a": "b"}, "instructions": "Be brief."}
    await deployed.json("POST", "/v1/conversations", json=body)

    async def updated(**fields: Any) -> Any:
        return await deployed.json("PATCH", path, json=fields)

    titled = await updated(title="Plans", expected_revision="1")
    cleared = await updated(update_mask="instructions,labels", title="unused")
    stale = await updated(title="Mine", expected_revision="1")
    empty = await updated()

    assert [200, 200, 409, 400] == [r.status_code for r in (titled, cleared, stale, empty)]
    found = titled.json()["conversation"]
    assert ("Plans", {"a": "b"}, "Be brief.", "2") == (
        found["title"],
        found["labels"],
        found["instructions"],
        found["revision"],
    )
    found = cleared.json()["conversation"]
    assert ("Plans", {}, "", "3") == (
        found["title"],
        found["labels"],
        found["instructions"],
        found["revision"],
    )
    info = stale.json()["details"][0]
    assert ("REVISION_MISMATCH", {"revision": "3"}) == (info["reason"], info["metadata"])


async def test_json_deletes_and_undeletes_a_conversation(deployed: Deployment) -> None:
    body = {"message": "hello", "request_id": an_id()}
    answer = (await deployed.json("POST", "/v1/conversations:chat", json=body)).json()
    path = f"/v1/conversations/{answer['conversation_id']}"

    deleted = await deployed.json("DELETE", path)
    assert 200 == deleted.status_code
    assert deleted.json()["purge_time"]
    gone = [
        await deployed.json("GET", path),
        await deployed.json("GET", f"{path}/messages"),
        await deployed.json("PATCH", path, json={"title": "Plans"}),
        await deployed.json("POST", "/v1/conversations:chat", json=body),
        await deployed.json("DELETE", path),
    ]
    assert [404] * 5 == [response.status_code for response in gone]
    allowed = await deployed.json("DELETE", path, params={"allow_missing": "true"})
    assert (200, {}) == (allowed.status_code, allowed.json())

    back = await deployed.json("POST", f"{path}:undelete", json={})
    assert (200, "hello", "2") == (
        back.status_code,
        back.json()["conversation"]["title"],
        back.json()["conversation"]["last_sequence"],
    )
    replay = await deployed.json("POST", "/v1/conversations:chat", json=body)
    assert {**answer, "replayed": True} == replay.json()


async def test_json_holds_a_whole_page_of_the_longest_messages(deployed: Deployment) -> None:
    """A page ends at 1 MiB; quotes and line ends are twice as long in JSON.

    Fails without per_connection_buffer_limit_bytes: Envoy's 1 MiB is less than that.
    """
    async with Caller(deployed.envoy.address) as caller:
        conversation_id = ""
        for _ in range(17):
            answer = await caller.stub.Chat(
                pb.ChatRequest(message='"\n' * 16_384, conversation_id=conversation_id),
                metadata=metadata("long"),
            )
            conversation_id = answer.conversation_id
    path = f"/v1/conversations/{conversation_id}/messages?page_size=1000"
    page = await deployed.json("GET", path, user="long")

    assert 200 == page.status_code
    assert len(page.content) > 2**21
    assert 2**20 >= sum(len(m["content"]) for m in page.json()["messages"]) > 2**20 - 2**17


async def test_json_takes_the_longest_message(deployed: Deployment) -> None:
    """As long as a message may be by default, and twice as long in JSON."""
    message = '"\n' * (Settings.model_fields["max_message_bytes"].default // 2)
    answer = await deployed.json(
        "POST", "/v1/conversations:chat", user="longest", json={"message": message}
    )
    assert 200 == answer.status_code
    path = f"/v1/conversations/{answer.json()['conversation_id']}/messages"
    page = await deployed.json("GET", path, user="longest")
    assert message == page.json()["messages"][0]["content"]


async def test_error_comes_whole_through_grpc(deployed: Deployment) -> None:
    async with Caller(deployed.envoy.address) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.stub.Chat(
                pb.ChatRequest(message="hello", conversation_id=NOBODYS), metadata=metadata("ada")
            )

    assert grpc.StatusCode.NOT_FOUND == caught.value.code()
    assert "CONVERSATION_NOT_FOUND" == info_of(caught.value).reason
    assert NOBODYS == info_of(caught.value).metadata["conversation_id"]


async def test_error_comes_whole_through_grpc_web(deployed: Deployment) -> None:
    request = pb.ChatRequest(message="hello", conversation_id=NOBODYS)
    message, trailers = await deployed.grpc_web("Chat", request)

    assert b"" == message
    assert "5" == trailers["grpc-status"]
    packed = trailers["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert ("CONVERSATION_NOT_FOUND", "parley.v1") == (info.reason, info.domain)


async def test_answer_comes_through_grpc_web(deployed: Deployment) -> None:
    request = pb.ChatRequest(message="from a page", request_id=an_id())
    message, trailers = await deployed.grpc_web("Chat", request)

    assert "from a page" == pb.ChatResponse.FromString(message).response
    assert "0" == trailers["grpc-status"]


@pytest.mark.parametrize(
    ("body", "token", "status", "code", "reason"),
    [
        ({"message": "hello", "conversation_id": NOBODYS}, True, 404, 5, "CONVERSATION_NOT_FOUND"),
        ({"message": ""}, True, 400, 3, "INVALID_REQUEST"),
        ({"message": "hello"}, False, 401, 16, "UNAUTHENTICATED"),
    ],
    ids=["not_found", "invalid", "unauthenticated"],
)
async def test_error_comes_whole_through_json(
    deployed: Deployment, body: dict[str, str], token: bool, status: int, code: int, reason: str
) -> None:
    """Fails when the descriptor set lacks google/rpc/error_details.proto: there is no body then."""
    headers = dict(metadata("ada")) if token else {}
    response = await deployed.http.post("/v1/conversations:chat", json=body, headers=headers)

    assert status == response.status_code
    assert "application/json" == response.headers["content-type"]
    error = response.json()
    assert code == error["code"]
    assert error["message"]
    kinds = {detail["@type"]: detail for detail in error["details"]}
    info = kinds["type.googleapis.com/google.rpc.ErrorInfo"]
    assert (reason, "parley.v1") == (info["reason"], info["domain"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/conversations?pagesize=5", 400),
        ("GET", "/v1/conversations?updated_after=yesterday", 400),
        ("DELETE", f"/v1/conversations/{NOBODYS}?allow_nothing=true", 400),
        ("PUT", f"/v1/conversations/{NOBODYS}", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", f"/{SERVICE}/Chat", 405),
        ("OPTIONS", f"/{SERVICE}/Chat", 405),
        ("POST", f"/{SERVICE}/Chat", 415),
        ("POST", "/grpc.health.v1.Health/Check", 404),
    ],
)
async def test_what_the_contract_does_not_have_is_refused(
    deployed: Deployment, method: str, path: str, status: int
) -> None:
    assert status == (await deployed.json(method, path)).status_code


async def test_body_cannot_name_another_conversation_than_the_path(deployed: Deployment) -> None:
    """Fails without reject_binding_body_field_collisions: the body's is the one that counts."""
    mine, other = an_id(), an_id()
    for identity in (mine, other):
        await deployed.json("POST", "/v1/conversations", json={"conversation_id": identity})
    body = {"title": "Plans", "conversation_id": other}
    refused = await deployed.json("PATCH", f"/v1/conversations/{mine}", json=body)
    allowed = await deployed.json("PATCH", f"/v1/conversations/{other}", json=body)

    assert [400, 200] == [refused.status_code, allowed.status_code]
    assert "conversation_id" in refused.json()["message"]
    assert other == allowed.json()["conversation"]["conversation_id"]
    kept = (await deployed.json("GET", f"/v1/conversations/{mine}")).json()
    assert "1" == kept["conversation"]["revision"]


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/conversations?pagesize=5", 400), ("/v1/nothing", 404)]
)
async def test_errors_of_envoys_own_are_json_too(
    deployed: Deployment, path: str, status: int
) -> None:
    """Fails when only what was transcoded is answered in JSON."""
    response = await deployed.json("GET", path)
    assert (status, "application/json") == (
        response.status_code,
        response.headers["content-type"],
    )
    assert "message" in response.json()


async def test_pages_of_the_named_origin_may_call_and_no_others(deployed: Deployment) -> None:
    def preflight(origin: str) -> dict[str, str]:
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-grpc-web",
        }
        return {"origin": origin, **asked}

    path = f"/{SERVICE}/Chat"
    own = await deployed.http.options(path, headers=preflight(OWN_PAGE))
    before = deployed.envoy.calls_of_workers()
    foreign = await deployed.http.options(path, headers=preflight("https://elsewhere.example"))
    assert before == deployed.envoy.calls_of_workers()
    called = await deployed.json("GET", "/v1/conversations")
    _, trailers = await deployed.grpc_web("Chat", pb.ChatRequest(message="hi"), origin=OWN_PAGE)

    assert OWN_PAGE == own.headers["access-control-allow-origin"]
    assert {"GET", "POST", "PATCH", "DELETE"} == set(
        own.headers["access-control-allow-methods"].split(", ")
    )
    assert {"authorization", "parley-retry"} <= set(
        own.headers["access-control-allow-headers"].split(", ")
    )
    assert "access-control-allow-origin" not in foreign.headers
    assert "access-control-allow-origin" not in called.headers
    assert "grpc-status-details-bin" in trailers["access-control-expose-headers"]


async def test_access_log_names_calls_and_holds_nothing_said(deployed: Deployment) -> None:
    secret = "nobody should read this"
    body = {"message": secret, "request_id": an_id()}
    await deployed.json("POST", "/v1/conversations:chat", user="logged", json=body)
    await deployed.grpc_web("Chat", pb.ChatRequest(message=secret))
    call = {"x-request-id": an_id()}
    _, told = await deployed.grpc_web(
        "Chat", pb.ChatRequest(message=secret, conversation_id=NOBODYS), **call
    )
    line = await deployed.envoy.logged(call["x-request-id"])

    assert call["x-request-id"] == told["x-request-id"]
    assert (f"/{SERVICE}/Chat", "5", 1) == (line["path"], line["grpc_status"], line["attempts"])
    assert int(line["worker"].rpartition(":")[2]) in deployed.ports
    log = "".join(deployed.envoy.lines) + deployed.envoy.log.read_text()
    assert "/v1/conversations:chat" in log
    assert secret not in log
    assert a_token("logged").partition(".")[0] not in log


async def test_admin_interface_is_for_this_machine_only() -> None:
    text = CONFIG.read_text().replace("!ignore policies", "policies")
    admin = yaml.safe_load(text)["admin"]["address"]["socket_address"]
    assert "127.0.0.1" == admin["address"]


async def test_turns_are_one_for_each_answer(deployed: Deployment) -> None:
    """What went through both workers is in one database."""
    async with Caller(deployed.envoy.address) as caller:
        ids = [an_id() for _ in range(10)]
        for request_id in [*ids, *ids]:
            await caller.stub.Chat(
                pb.ChatRequest(message="hello", request_id=request_id), metadata=metadata("once")
            )
    with psycopg.connect(deployed.database_url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM turn WHERE request_id = ANY(%s)", (ids,)
        ).fetchone()
    assert (10,) == found


async def test_tls_as_in_the_comments_is_spoken_to_callers_and_to_workers(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "workers-ca.crt")
    outside = authority.issue_cert("localhost", "127.0.0.1")
    outside.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    outside.private_key_pem.write_to_path(tmp_path / "tls.key")
    inside = authority.issue_cert("parley.internal")
    key_and_chain = (inside.private_key_pem.bytes(), inside.cert_chain_pems[0].bytes())
    files = ("/etc/envoy", str(tmp_path))
    async with (
        scripted(an_answer(), credentials=grpc.ssl_server_credentials([key_and_chain])) as worker,
        Envoy(tmp_path, [worker.port], files, text=with_tls(CONFIG.read_text())) as envoy,
    ):
        trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        async with Caller(envoy.address, credentials=trusted) as caller:
            answer = await caller.stub.Chat(pb.ChatRequest(message="hello"), timeout=20)
        context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        async with httpx.AsyncClient(verify=context) as http:
            url = f"https://localhost:{envoy.port}/v1/conversations:chat"
            posted = await http.post(url, json={"message": "hello"})
        async with httpx.AsyncClient() as http:
            with pytest.raises(httpx.TransportError):
                await http.post(url.replace("https", "http"), json={"message": "hello"})

    assert "HELLO" == answer.response
    assert "HELLO" == posted.json()["response"]
