"""The examples for Kubernetes, meshes and gateways, against the schemas of those projects."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml

from parley.v1 import conversation_service_pb2 as pb
from parley_server.config import Settings
from parley_server.rpc.server import LIVENESS
from support.envoys import ROOT
from support.kubernetes_schemas import mistakes

DEPLOY = ROOT / "deploy"
FOLDERS = ("kubernetes", "istio", "linkerd", "gateway-api")
MANIFESTS = sorted(path for folder in FOLDERS for path in (DEPLOY / folder).glob("*.yaml"))

SERVICE = pb.DESCRIPTOR.services_by_name["ConversationService"]


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in MANIFESTS:
        for manifest in yaml.safe_load_all(path.read_text()):
            yield f"{path.parent.name}/{path.stem}/{manifest['kind']}", manifest


def the(kind: str) -> dict[str, Any]:
    """Return the first manifest of a kind for Kubernetes itself."""
    return next(m for name, m in manifests() if name.startswith("kubernetes") and m["kind"] == kind)


@pytest.mark.slow
@pytest.mark.parametrize("manifest", [m for _, m in manifests()], ids=[n for n, _ in manifests()])
def test_manifest_is_what_its_schema_says(manifest: dict[str, Any]) -> None:
    assert [] == mistakes(manifest)


@pytest.mark.parametrize("kind", ["Deployment", "DestinationRule", "GRPCRoute"])
def test_misspelt_field_is_noticed(kind: str) -> None:
    manifest = next(m for _, m in manifests() if m["kind"] == kind)
    manifest["spec"]["minReadySecond"] = 10
    assert any("minReadySecond" in mistake for mistake in mistakes(manifest))


def test_worker_may_drain_before_it_is_killed() -> None:
    pod = the("Deployment")["spec"]["template"]["spec"]
    worker = pod["containers"][0]
    drain_s = int(next(e["value"] for e in worker["env"] if e["name"] == "PARLEY_DRAIN_S"))
    stop_s = worker["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= stop_s + drain_s + 10
    assert drain_s > Settings.model_fields["chat_timeout_s"].default


def test_probes_ask_for_the_service_that_health_names() -> None:
    worker = the("Deployment")["spec"]["template"]["spec"]["containers"][0]
    port = worker["ports"][0]["containerPort"]
    assert {"port": port, "service": SERVICE.full_name} == worker["readinessProbe"]["grpc"]
    # Else an issuer that is away for long would have workers restarted.
    for probe in ("startupProbe", "livenessProbe"):
        assert {"port": port, "service": LIVENESS} == worker[probe]["grpc"]


def test_settings_are_known_and_secrets_are_references() -> None:
    known = {f"PARLEY_{name.upper()}" for name in Settings.model_fields} | {"OPENAI_API_KEY"}
    for kind in ("Deployment", "Job"):
        for variable in the(kind)["spec"]["template"]["spec"]["containers"][0]["env"]:
            assert variable["name"] in known
            is_secret = variable["name"].endswith(("_URL", "_KEY", "_SECRET"))
            assert is_secret == ("secretKeyRef" in variable.get("valueFrom", {})), variable["name"]


def policies() -> dict[str, dict[str, Any]]:
    """Return the network policies by the pods that they are for."""
    found = [m["spec"] for _, m in manifests() if m["kind"] == "NetworkPolicy"]
    return {spec["podSelector"]["matchLabels"]["app"]: spec for spec in found}


def test_network_policies_are_for_every_pod_and_let_nothing_else_in_or_out() -> None:
    """Fails when pods have no policy: all in the cluster reach them, and they reach all."""
    pods = {
        m["spec"]["template"]["metadata"]["labels"]["app"]
        for _, m in manifests()
        if m["kind"] in ("Deployment", "Job")
    }
    assert pods == set(policies())
    for spec in policies().values():
        assert ["Ingress", "Egress"] == spec["policyTypes"]
        for rule in [*spec.get("ingress", []), *spec["egress"]]:
            assert rule["ports"], "a rule for all ports"
            assert rule.get("from") or rule.get("to"), "a rule for all peers"


def test_callers_reach_calls_and_not_metrics() -> None:
    ports = {
        p["name"] for p in the("Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    rules = policies()["parley"]["ingress"]
    assert ports == {port["port"] for rule in rules for port in rule["ports"]}
    for rule in rules:
        assert 1 == len(rule["ports"]), "who may call may not read metrics"
    assert "ingress" not in policies()["parley-migrate"]


@pytest.mark.parametrize("address", ["169.254.169.254", "10.1.2.3", "192.168.0.1", "fd00::1"])
def test_what_a_model_makes_a_worker_fetch_is_on_the_internet(address: str) -> None:
    """A tool that is talked into reading a cloud's metadata service or a neighbour cannot."""
    blocks = [
        peer["ipBlock"]
        for rule in policies()["parley"]["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    for block in blocks:
        is_inside = ip_address(address) in ip_network(block["cidr"])
        excepted = [ip_network(network) for network in block["except"]]
        assert not is_inside or any(ip_address(address) in network for network in excepted)
    assert 2 == len(blocks)


def test_base_image_can_be_pinned_by_one_argument() -> None:
    """Fails when a stage names its image itself: a digest would then hold half of the build."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    images = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert ["python:${PYTHON}"] * 2 == images
    assert 1 == sum(line.startswith("ARG PYTHON=") for line in lines)
