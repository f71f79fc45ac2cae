"""Every JSON form that the contract names leads through Envoy to its method, and to no other."""

import re
from pathlib import Path
from typing import Any

import httpx2 as httpx
from google.api import annotations_pb2

from parley.v1 import conversation_service_pb2 as pb
from support.envoys import CONFIG, Envoy
from support.scripted_server import scripted

SERVICE = pb.DESCRIPTOR.services_by_name["ConversationService"]
WITHOUT_JSON = {"GetTurn", "CancelTurn"}
"""And streams: JSON over HTTP has no form for them."""
LISTED = re.compile(r"^ +#   (GET|POST|PATCH|DELETE) +(/v1/\S+)$", re.MULTILINE)


def forms() -> dict[str, tuple[str, str]]:
    """Return verb and path of each method that has them."""
    found = {}
    for method in SERVICE.methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        verb = rule.WhichOneof("pattern")
        if verb is not None:
            found[method.name] = (verb.upper(), getattr(rule, verb))
    return found


async def test_every_json_form_leads_to_its_method(tmp_path: Path) -> None:
    """Fails when two forms fit one path, or the configuration lacks one."""

    async def answered(request: Any) -> Any:
        return getattr(pb, type(request).__name__.replace("Request", "Response"))()

    led = {}
    async with (
        scripted(answered) as worker,
        Envoy(tmp_path, [worker.port]) as envoy,
        httpx.AsyncClient(base_url=f"http://{envoy.address}") as http,
    ):
        for name, (verb, path) in forms().items():
            content = b"" if verb in ("GET", "DELETE") else b"{}"
            path_of_one = path.replace("{conversation_id}", "c").replace("{turn_id}", "t")
            response = await http.request(verb, path_of_one, content=content)
            request = worker.asked.pop().request
            led[name] = (response.status_code, type(request).__name__)
            if "{conversation_id}" in path:
                assert "c" == request.conversation_id, name

    assert {name: (200, f"{name}Request") for name in forms()} == led


def test_streams_and_methods_named_here_alone_have_no_json_form() -> None:
    streams = {method.name for method in SERVICE.methods if method.server_streaming}
    assert {method.name for method in SERVICE.methods} - forms().keys() == WITHOUT_JSON | streams


def test_comment_of_the_configuration_lists_every_form() -> None:
    assert sorted(LISTED.findall(CONFIG.read_text())) == sorted(forms().values())
