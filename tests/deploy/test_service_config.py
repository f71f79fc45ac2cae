"""What gRPC retries by itself, in every client: one file, and copies where packages need them."""

import json
from pathlib import Path

from parley.v1 import conversation_service_pb2 as pb
from support.envoys import ROOT

CLIENTS = ROOT / "clients"
ORIGINAL = CLIENTS / "python" / "parley_client" / "service_config.json"
MADE_BY_BUILDS = {"build", "dist", "node_modules", "target"}


def copies() -> list[Path]:
    found = CLIENTS.rglob("service_config.json")
    return [p for p in found if not MADE_BY_BUILDS & set(p.relative_to(CLIENTS).parts)]


def test_every_clients_service_config_is_the_same() -> None:
    assert ORIGINAL in copies()
    original = ORIGINAL.read_bytes()
    assert [] == [str(path) for path in copies() if path.read_bytes() != original]


def test_service_config_names_only_methods_that_there_are() -> None:
    service = pb.DESCRIPTOR.services_by_name["ConversationService"]
    named = [
        n for method in json.loads(ORIGINAL.read_text())["methodConfig"] for n in method["name"]
    ]
    assert {service.full_name} == {name["service"] for name in named}
    methods = {name["method"] for name in named if "method" in name}
    assert {m.name for m in service.methods if m.server_streaming} == methods
