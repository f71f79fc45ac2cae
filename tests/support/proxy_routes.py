"""Which route of the files in deploy/ a call takes, as each proxy reads its own."""

import re
from functools import cache
from typing import Any

import yaml

from support.envoys import CONFIG, ROOT

Headers = dict[str, str]


def envoy_route(path: str, headers: Headers) -> dict[str, Any]:
    """Return what Envoy's first route that fits says of a call. Of its host: `retry_policy`."""
    host = _envoy_host()
    for route in host["routes"]:
        match = route["match"]
        if "route" in route and _has(match.get("headers", []), headers):
            uri = {
                "exact": match.get("path", ""),
                "prefix": match.get("prefix", "none"),
                "regex": match.get("safe_regex", {}).get("regex", ""),
            }
            if _is_of(path, **uri):
                return {"retry_policy": host["retry_policy"], **route["route"]}
    raise AssertionError(f"no route for {path}")


@cache
def _envoy_host() -> dict[str, Any]:
    text = CONFIG.read_text().replace("!ignore ", "")
    listener = yaml.safe_load(text)["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    host: dict[str, Any] = manager["route_config"]["virtual_hosts"][0]
    return host


def _has(wanted: list[dict[str, Any]], headers: Headers) -> bool:
    """Whether a call has the headers that a route of Envoy's wants, and none that it does not."""
    return all(
        headers.get(header["name"]) == header["string_match"]["exact"]
        if "string_match" in header
        else (header["name"] in headers) == header["present_match"]
        for header in wanted
    )


def istio_rule(path: str, headers: Headers) -> dict[str, Any]:
    """Return Istio's first rule that fits a call."""
    (service,) = (m for m in manifests("istio") if m["kind"] == "VirtualService")
    for rule in service["spec"]["http"]:
        for match in rule["match"]:
            wanted = {name: value["exact"] for name, value in match.get("headers", {}).items()}
            has_none = headers.keys().isdisjoint(match.get("withoutHeaders", {}))
            if has_none and wanted.items() <= headers.items() and _is_of(path, **match["uri"]):
                found: dict[str, Any] = rule
                return found
    raise AssertionError(f"no rule for {path}")


def grpc_route(folder: str, path: str, headers: Headers) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the GRPCRoute and its rule that say most about a call.

    Its method goes before its headers.
    """
    _, service, method = path.split("/")
    fitting: list[tuple[bool, int, dict[str, Any], dict[str, Any]]] = []
    for route in manifests(folder):
        for rule in route["spec"]["rules"]:
            for match in rule["matches"]:
                wanted = {header["name"]: header["value"] for header in match.get("headers", [])}
                named = match["method"]
                assert service == named["service"]
                if method == named.get("method", method) and wanted.items() <= headers.items():
                    fitting.append(("method" in named, len(wanted), route, rule))
    *_, found, its_rule = max(fitting, key=lambda each: each[:2])
    return found, its_rule


@cache
def manifests(folder: str) -> list[dict[str, Any]]:
    """Return the manifests of a folder in deploy/."""
    paths = sorted((ROOT / "deploy" / folder).glob("*.yaml"))
    return [each for path in paths for each in yaml.safe_load_all(path.read_text())]


def _is_of(path: str, *, exact: str = "", prefix: str = "none", regex: str = "") -> bool:
    return path == exact or path.startswith(prefix) or re.fullmatch(regex, path) is not None
