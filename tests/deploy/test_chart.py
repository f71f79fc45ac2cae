"""The chart: every combination of its values gives what Kubernetes takes and Parley needs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from parley_server.agents.file.reading import read_agents_file
from parley_server.config import NOT_OURS, Settings
from support.envoys import ROOT
from support.helm import (
    CHART,
    helm_says,
    merged,
    pairwise,
    pod_of,
    rendered,
    the_one,
    values_of,
)
from support.kubernetes_schemas import mistakes

PLAIN = values_of("plain")
AGENTS_FILE = values_of("agents")["agent"]["file"]
OWN_AUTH = {"auth": {"issuer": "https://issuer.example", "audience": "parley"}}
PEERS = [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
OTHERS = {"OPENAI_API_KEY", "SHOP_KEY", "OTEL_EXPORTER_OTLP_ENDPOINT", "HTTPS_PROXY"}
FACTORS: dict[str, list[dict[str, Any]]] = {
    "agent": [
        {"agent": {"name": "openai:gpt-5-mini"}},
        {"agent": {"file": AGENTS_FILE}, "secrets": {"SHOP_KEY": {"secret": "shop", "key": "key"}}},
    ],
    "keys": [
        merged(OWN_AUTH, {"auth": {"keys": {"secret": "issuer"}}}),
        merged(OWN_AUTH, {"auth": {"jwksUrl": "https://issuer.example/keys"}}),
        # Without quotes, these would be numbers.
        merged(OWN_AUTH, {"auth": {"hs256": {"secret": "0123", "key": "1e3"}}}),
    ],
    "tls": [
        {},
        {"tls": {"secret": "tls"}},
        {"tls": {"secret": "tls", "clientCa": True}},
        {"tls": {"secret": "tls", "clientCa": True, "probeSecret": "404"}},
    ],
    "scaling": [
        {},
        {"autoscaling": {"enabled": True}},
        {"autoscaling": {"enabled": True, "queuedTurns": 0, "minReplicas": 1}},
    ],
    "policy": [
        {},
        {"networkPolicy": {"enabled": False}},
        {"networkPolicy": {"internet": False, "callers": PEERS, "database": {"peers": PEERS}}},
        {
            "networkPolicy": {
                "dns": {"peers": PEERS, "port": 5353},
                "migrateDatabase": {"peers": PEERS, "port": 6543},
            }
        },
    ],
    "settings": [
        {},
        {"settings": {"row_security": True, "max_tokens_per_day": 10**12, "owner_share": 0.5}},
        {"settings": {"chat_timeout_s": 300}, "drainS": 305.5, "stop": {"delayS": 15}},
    ],
    "traces": [{}, {"traces": {"endpoint": "http://collector:4317", "sample": 1}}],
    "image": [{}, {"image": {"tag": "1.2"}}, {"image": {"digest": f"sha256:{'a' * 64}"}}],
    "migrate": [
        {},
        {"migrate": {"enabled": False}},
        {"migrate": {"podLabels": {"mesh": "false"}, "podAnnotations": {"a/b": "off"}}},
    ],
    "name": [{}, {"nameOverride": "on"}],
    "pods": [
        {},
        {
            "imagePullSecrets": ["registry"],
            "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "podLabels": {"team": "blue"},
            "podAnnotations": {"a/b": "c"},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "priorityClassName": "high",
            "serviceAccountName": "parley",
            "shareProcessNamespace": True,
            "volumes": [{"name": "code", "configMap": {"name": "code"}}],
            "volumeMounts": [{"name": "code", "mountPath": "/code"}],
            "service": {"annotations": {"a/b": "c"}},
            "disruption": {"maxUnavailable": "20%"},
        },
    ],
}
COMBINATIONS = dict(pairwise(FACTORS))


def variables(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (container,) = pod_of(manifest)["containers"]
    return {variable["name"]: variable for variable in container["env"]}


def pods_of(manifests: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "Job"):
            yield manifest


@pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS.keys())
def test_any_values_give_what_kubernetes_and_parley_take(values: dict[str, Any]) -> None:
    """Kubernetes' own strict schemas, and the rules of this file, over pairs of all choices."""
    manifests = rendered(values)
    for manifest in manifests:
        assert [] == mistakes(manifest), manifest["kind"]
    names = [(m["kind"], m["metadata"]["name"]) for m in manifests]
    assert len(set(names)) == len(names)
    for manifest in pods_of(manifests):
        assert_settings_are_the_servers(manifest)
        assert_is_restricted(pod_of(manifest))
        assert_mounts_are_there(manifest, manifests)
    deployment = the_one(manifests, "Deployment")
    assert_stop_fits_the_drain(pod_of(deployment), values)
    assert_policies_are_for_pods(manifests, values)
    assert_services_lead_to_pods(manifests)
    assert ("replicas" in deployment["spec"]) != ("autoscaling" in values)
    for job in (m for m in manifests if m["kind"] == "Job"):
        assert_job_is_as_its_mesh_and_platform_want_it(job, values)


def assert_settings_are_the_servers(manifest: dict[str, Any]) -> None:
    """Each variable is a setting, which takes its value, and what is secret comes from a Secret."""
    fields = {f"PARLEY_{name.upper()}": field for name, field in Settings.model_fields.items()}
    found = variables(manifest)
    assert set() == found.keys() - fields.keys() - NOT_OURS - OTHERS
    for name, variable in found.items():
        is_secret = name in OTHERS and name.endswith("_KEY")
        is_secret |= name in fields and "SecretStr" in str(fields[name].annotation)
        assert is_secret == ("secretKeyRef" in variable.get("valueFrom", {})), name
    given = {
        name: found[name]["value"]
        for name in found.keys() & fields.keys()
        if "value" in found[name]
    }
    Settings(**{name.removeprefix("PARLEY_").lower(): value for name, value in given.items()})


def assert_is_restricted(pod: dict[str, Any]) -> None:
    """As Kubernetes' restricted level asks, with a root that is read-only, and no token."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert 0 != pod["securityContext"]["runAsUser"]
    assert {"type": "RuntimeDefault"} == pod["securityContext"]["seccompProfile"]
    assert pod["automountServiceAccountToken"] is False
    # A Service named parley would else set PARLEY_PORT and more, which look like settings.
    assert pod["enableServiceLinks"] is False
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert {"drop": ["ALL"]} == security["capabilities"]
        assert "memory" in container["resources"]["limits"]


def assert_mounts_are_there(manifest: dict[str, Any], manifests: list[dict[str, Any]]) -> None:
    pod = pod_of(manifest)
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    for name, variable in variables(manifest).items():
        if name.endswith("_FILE"):
            folder = variable["value"].rpartition("/")[0]
            assert folder in mounts.values(), name
    if "agents" in volumes:
        ours = the_one(manifests, "ConfigMap", volumes["agents"]["configMap"]["name"])
        assert {"agents.toml": AGENTS_FILE} == ours["data"]


def assert_stop_fits_the_drain(pod: dict[str, Any], values: dict[str, Any]) -> None:
    (worker,) = pod["containers"]
    environment = {v["name"]: v.get("value") for v in worker["env"]}
    sleep_s = worker["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = float(environment["PARLEY_DRAIN_S"])
    assert values.get("drainS", 125) == drain_s
    assert pod["terminationGracePeriodSeconds"] >= sleep_s + drain_s + 10
    turn_s = environment.get("PARLEY_CHAT_TIMEOUT_S")
    assert drain_s > float(turn_s or Settings.model_fields["chat_timeout_s"].default)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        (kind,) = worker[probe].keys() & {"grpc", "exec"}
        assert ("exec" if "tls" in values else "grpc") == kind
        is_for_life = probe != "readinessProbe"
        assert is_for_life == ("liveness" in str(worker[probe][kind]))


def assert_policies_are_for_pods(manifests: list[dict[str, Any]], values: dict[str, Any]) -> None:
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    if values.get("networkPolicy", {}).get("enabled") is False:
        assert [] == policies
        return
    labels = {m["spec"]["template"]["metadata"]["labels"]["app"] for m in pods_of(manifests)}
    assert labels == {p["spec"]["podSelector"]["matchLabels"]["app"] for p in policies}
    for policy in policies:
        assert ["Ingress", "Egress"] == policy["spec"]["policyTypes"]
        is_jobs = "ingress" not in policy["spec"]
        own = values.get("networkPolicy", {}).get("migrateDatabase", {}) if is_jobs else {}
        dns, database = policy["spec"]["egress"][:2]
        assert own.get("port", 5432) == database["ports"][0]["port"]
        assert {"UDP", "TCP"} == {port["protocol"] for port in dns["ports"]}
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"]["egress"]]:
            assert rule["ports"]
            assert rule.get("from") or rule.get("to"), "a rule for all peers"


def assert_job_is_as_its_mesh_and_platform_want_it(job: Any, values: dict[str, Any]) -> None:
    template = job["spec"]["template"]
    own = values.get("migrate", {})
    assert own.get("podLabels", {}).items() <= template["metadata"]["labels"].items()
    assert own.get("podAnnotations") == template["metadata"].get("annotations")
    assert values.get("serviceAccountName") == template["spec"].get("serviceAccountName")
    assert {v["name"] for v in values.get("env", [])} <= variables(job).keys()


def assert_services_lead_to_pods(manifests: list[dict[str, Any]]) -> None:
    deployment = the_one(manifests, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (worker,) = pod_of(deployment)["containers"]
    ports = {port["name"]: port["containerPort"] for port in worker["ports"]}
    services = [m for m in manifests if m["kind"] == "Service"]
    assert 3 == len(services)
    for service in services:
        assert service["spec"]["selector"].items() <= labels.items()
        (port,) = service["spec"]["ports"]
        assert ports[port["targetPort"]] == port["port"]
    assert the_one(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= (
        labels.items()
    )


def without_helms(manifest: Any) -> Any:
    """Return an object without what only helm needs."""
    if isinstance(manifest, dict):
        kept = {
            key: without_helms(value)
            for key, value in manifest.items()
            if not re.match(r"(app\.kubernetes\.io|helm\.sh)/", key)
        }
        return {key: value for key, value in kept.items() if value or key not in OPTIONAL}
    if isinstance(manifest, list):
        return [without_helms(entry) for entry in manifest]
    return manifest


OPTIONAL = ("annotations", "labels")


def test_plain_manifests_are_the_chart_with_its_plain_values() -> None:
    """One is not changed without the other. Seen to fail when a probe's period differed."""
    plain = [
        manifest
        for path in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
        for manifest in yaml.safe_load_all(path.read_text())
    ]

    def by_name(manifests: list[dict[str, Any]]) -> dict[str, Any]:
        return {f"{m['kind']} {m['metadata']['name']}": without_helms(m) for m in manifests}

    expected, actual = by_name(plain), by_name(rendered(PLAIN))
    assert expected.keys() == actual.keys()
    for name, manifest in expected.items():
        assert by_variable(manifest) == by_variable(actual[name]), name


def by_variable(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return an object whose containers' variables are in the order of their names."""
    for container in manifest["spec"].get("template", {}).get("spec", {}).get("containers", []):
        container["env"].sort(key=lambda variable: variable["name"])
    return manifest


def test_migration_is_a_hook_and_its_policy_is_there_before_it() -> None:
    """Fails when the policy is no hook: a cluster that denies by default then stops the Job."""
    manifests = rendered(PLAIN)
    job = the_one(manifests, "Job")
    label = job["spec"]["template"]["metadata"]["labels"]["app"]
    policy = next(
        m
        for m in manifests
        if m["kind"] == "NetworkPolicy" and m["spec"]["podSelector"]["matchLabels"]["app"] == label
    )
    hooks = [m["metadata"]["annotations"] for m in (policy, job)]
    assert ["pre-install,pre-upgrade"] * 2 == [hook["helm.sh/hook"] for hook in hooks]
    weights = [int(hook["helm.sh/hook-weight"]) for hook in hooks]
    assert weights == sorted(weights)
    assert weights[0] != weights[1]
    # A policy that stayed would outlive `networkPolicy.enabled`: helm forgets hooks.
    assert "hook-succeeded" in hooks[0]["helm.sh/hook-delete-policy"]
    assert "PARLEY_MIGRATE_DATABASE_URL" not in variables(the_one(manifests, "Deployment"))


def test_autoscaler_goes_by_open_chats_and_the_queue() -> None:
    manifests = rendered(merged(PLAIN, {"autoscaling": {"enabled": True}}))
    spec = the_one(manifests, "HorizontalPodAutoscaler")["spec"]
    assert "parley_open_chats" == spec["metrics"][0]["pods"]["metric"]["name"]
    assert "parley_queue_turns" == spec["metrics"][1]["external"]["metric"]["name"]
    assert the_one(manifests, "Deployment")["metadata"]["name"] == spec["scaleTargetRef"]["name"]


def test_changed_agents_file_replaces_the_workers() -> None:
    def template(file: str) -> Any:
        values = merged(values_of("agents"), {"agent": {"file": file}})
        return the_one(rendered(values), "Deployment")["spec"]["template"]

    assert template(AGENTS_FILE) == template(AGENTS_FILE)
    assert template(AGENTS_FILE) != template(AGENTS_FILE.replace("30", "31"))


def test_agents_file_of_the_example_is_one_that_the_server_takes(tmp_path: Path) -> None:
    """Fails when a $VARIABLE of the file is not among the pod's variables."""
    manifests = rendered(values_of("agents"))
    path = tmp_path / "agents.toml"
    path.write_text(the_one(manifests, "ConfigMap")["data"]["agents.toml"])
    environment = dict.fromkeys(variables(the_one(manifests, "Deployment")), "a value")
    assert {"shop", "parrot"} == read_agents_file(path, environment).definitions.agents.keys()


@pytest.mark.parametrize("name", ["plain", "agents"])
def test_helm_finds_nothing_to_say_about_the_chart(name: str) -> None:
    said = helm_says("lint", str(CHART), "--strict", "--quiet", values=values_of(name))
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


def test_notes_say_how_long_a_stop_may_take_and_who_may_call() -> None:
    command = ("install", "talk", str(CHART), "--dry-run=client", "--namespace", "chats")
    said = helm_says(*command, values=PLAIN)
    notes = said.partition("NOTES:\n")[2]
    assert "dns:///talk-workers.chats.svc:50051" in notes
    assert "A worker may take 140 seconds to end" in notes
    assert "networkPolicy.callers" in notes


def test_values_of_the_guide_are_taken() -> None:
    section = (ROOT / "docs" / "production.md").read_text().partition("\n## Kubernetes\n")[2]
    values = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])
    assert "7" == variables(the_one(rendered(values), "Deployment"))["PARLEY_TRASH_DAYS"]["value"]
