"""The examples for Kubernetes, meshes and gateways, against the schemas of those projects."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from jsonschema import Draft202012Validator

from parley.v1 import conversation_service_pb2 as pb
from parley_server.config import Settings
from parley_server.rpc.server import LIVENESS
from support.envoys import ROOT

DEPLOY = ROOT / "deploy"
FOLDERS = ("kubernetes", "istio", "linkerd", "gateway-api")
MANIFESTS = sorted(path for folder in FOLDERS for path in (DEPLOY / folder).glob("*.yaml"))

# Go modules that hold schemas, each with the checksum that go.sum would have.
GATEWAY_API = ("sigs.k8s.io/gateway-api@v1.6.3", "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=")
ISTIO = ("istio.io/api@v1.31.1", "h1:5Yb5ihcz4YQsCkciusK7DnFpBMwRB6EFWeUKH1Atuyk=")
# A wheel that holds Kubernetes' own, pinned in requirements/schemas.txt.
KUBERNETES = "kubernetes_validate/kubernetes-json-schema/v1.37.0-local-strict/_definitions.json"

SERVICE = pb.DESCRIPTOR.services_by_name["ConversationService"]


def missing(what: str, problem: str) -> NoReturn:
    """Skip where a schema cannot be had. CI has to have all of them."""
    assert not os.environ.get("PARLEY_CI"), f"CI needs {what}, which cannot be had: {problem}"
    pytest.skip(f"needs {what}, which cannot be had: {problem}")


def fetched(*command: str) -> str:
    """Run a registry's own client. Returns: what it says; empty: it is not here, or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


@cache
def module(name: str, checksum: str) -> Path:
    """Fetch a Go module, unless it is there."""
    found = json.loads(fetched("go", "mod", "download", "-json", name) or "{}")
    if "Dir" not in found:
        missing(f"the Go module {name}", found.get("Error", "no answer from go"))
    assert checksum == found["Sum"]
    return Path(found["Dir"])


@cache
def kubernetes_definitions() -> dict[str, Any]:
    """Return Kubernetes' own schemas, which refuse unknown fields, from a wheel that is kept."""
    folder = ROOT / "build" / "schemas"
    pin = ROOT / "requirements" / "schemas.txt"
    name = pin.read_text().partition("\nkubernetes-validate==")[2].split()[0]
    wheel = folder / f"kubernetes_validate-{name}-py3-none-any.whl"
    if not wheel.exists():
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
        fetched(*pip, "--no-deps", "--require-hashes", "-d", str(folder), "-r", str(pin))
    if not wheel.exists():
        missing(wheel.name, "pip could not download it")
    with zipfile.ZipFile(wheel) as archive:
        definitions: dict[str, Any] = json.loads(archive.read(KUBERNETES))
    return definitions


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Refuse fields that a schema does not name: misspelt ones, which a cluster drops silently."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


def schema_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest of this kind has to look like."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind = manifest["kind"]
    match group:
        case "gateway.networking.k8s.io":
            folder = module(*GATEWAY_API) / "config" / "crd" / "standard"
            texts = [path.read_text() for path in folder.glob("gateway*.yaml")]
        case "networking.istio.io":
            folder = module(*ISTIO) / "kubernetes"
            texts = [(folder / "customresourcedefinitions.gen.yaml").read_text()]
        case _:
            name = f"io.k8s.api.{group.partition('.')[0] or 'core'}.{version}.{kind}"
            return {**kubernetes_definitions(), "$ref": f"#/$defs/{name}"}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for text in texts:
        for crd in yaml.load_all(text, loader):
            if (
                crd
                and crd["kind"] == "CustomResourceDefinition"
                and crd["spec"]["names"]["kind"] == kind
            ):
                found = next(v for v in crd["spec"]["versions"] if v["name"] == version)
                whole = found["schema"]["openAPIV3Schema"]
                whole["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
                closed: dict[str, Any] = json.loads(json.dumps(whole), object_hook=strict)
                return closed
    raise AssertionError(f"no schema for {manifest['apiVersion']} {kind}")


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in MANIFESTS:
        for manifest in yaml.safe_load_all(path.read_text()):
            yield f"{path.parent.name}/{path.stem}/{manifest['kind']}", manifest


def the(kind: str) -> dict[str, Any]:
    """Return the first manifest of a kind for Kubernetes itself."""
    return next(m for name, m in manifests() if name.startswith("kubernetes") and m["kind"] == kind)


def mistakes(manifest: dict[str, Any]) -> list[str]:
    found = Draft202012Validator(schema_of(manifest)).iter_errors(manifest)
    return [f"{error.json_path}: {error.message}" for error in found]


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
