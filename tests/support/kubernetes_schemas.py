"""Manifests for Kubernetes against the schemas of the projects whose objects they are."""

import json
import os
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from jsonschema import Draft202012Validator

from support.envoys import ROOT

# Go modules that hold schemas, each with the checksum that go.sum would have.
GATEWAY_API = ("sigs.k8s.io/gateway-api@v1.6.3", "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=")
ISTIO = ("istio.io/api@v1.31.1", "h1:5Yb5ihcz4YQsCkciusK7DnFpBMwRB6EFWeUKH1Atuyk=")
# A wheel that holds Kubernetes' own, pinned in requirements/schemas.txt.
KUBERNETES = "kubernetes_validate/kubernetes-json-schema/v1.37.0-local-strict/_definitions.json"


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


def mistakes(manifest: dict[str, Any]) -> list[str]:
    """Return what is wrong with a manifest, each with its place."""
    found = _validator(manifest["apiVersion"], manifest["kind"]).iter_errors(manifest)
    return [f"{error.json_path}: {error.message}" for error in found]


@cache
def _validator(api_version: str, kind: str) -> Draft202012Validator:
    return Draft202012Validator(schema_of({"apiVersion": api_version, "kind": kind}))
