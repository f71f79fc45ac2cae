"""Which calls each proxy sends again though they may have been carried out: those that bear it."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from parley.v1 import conversation_service_pb2 as pb
from parley_client.calls import RETRY_IS_SAFE
from support.envoys import CONFIG, ROOT

SERVICE = pb.DESCRIPTOR.services_by_name["ConversationService"]
ALWAYS = {
    "GetHistory",
    "GetConversation",
    "ListConversations",
    "GetTurn",
    "GetUsage",
    "ListAgents",
    "ExplainTurn",
    "CancelTurn",
    "UndeleteConversation",
    "EraseOwner",
    "ResumeTurn",
    "StreamResumeTurn",
}
WITH_REQUEST_ID = {
    "Chat",
    "StreamChat",
    "StartTurn",
    "CreateConversation",
    "ForkConversation",
    "AppendMessages",
}
NEVER = {
    "UpdateConversation",
    "DeleteConversation",
    "WatchConversation",
    "WatchTurns",
    "ExportConversations",
    "RehearseTurn",
}
UNSENT = {"connect-failure", "refused-stream"}

Headers = dict[str, str]


def manifests(folder: str) -> Iterator[dict[str, Any]]:
    for path in sorted((ROOT / "deploy" / folder).glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text())


def is_of(path: str, *, exact: str = "", prefix: str = "none", regex: str = "") -> bool:
    return path == exact or path.startswith(prefix) or re.fullmatch(regex, path) is not None


def beyond_unsent(retry_on: str) -> bool:
    """Say whether a policy repeats more than what has never reached a worker."""
    return not set(retry_on.split(",")) <= UNSENT


def envoy_repeats(path: str, headers: Headers) -> bool:
    """Read the first route that fits."""
    text = CONFIG.read_text().replace("!ignore ", "")
    listener = yaml.safe_load(text)["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    host = manager["route_config"]["virtual_hosts"][0]
    usual = host["retry_policy"]
    for route in host["routes"]:
        match = route["match"]
        wanted = {
            header["name"]: header["string_match"]["exact"]
            for header in match.get("headers", [])
            if "string_match" in header
        }
        if wanted.items() <= headers.items() and is_of(
            path,
            exact=match.get("path", ""),
            prefix=match.get("prefix", "none"),
            regex=match.get("safe_regex", {}).get("regex", ""),
        ):
            return beyond_unsent((route["route"].get("retry_policy") or usual)["retry_on"])
    raise AssertionError(f"no route for {path}")


def istio_repeats(path: str, headers: Headers) -> bool:
    """Read the first rule that fits."""
    (service,) = (m for m in manifests("istio") if m["kind"] == "VirtualService")
    for rule in service["spec"]["http"]:
        for match in rule["match"]:
            wanted = {name: value["exact"] for name, value in match.get("headers", {}).items()}
            if wanted.items() <= headers.items() and is_of(path, **match["uri"]):
                return beyond_unsent(rule["retries"]["retryOn"])
    raise AssertionError(f"no rule for {path}")


def grpc_routes_repeat(
    folder: str, is_repeated: Callable[[Any, Any], bool], path: str, headers: Headers
) -> bool:
    """Read the rule that says most about the call: its method goes before its headers."""
    _, service, method = path.split("/")
    fitting = []
    for route in manifests(folder):
        for rule in route["spec"]["rules"]:
            for match in rule["matches"]:
                wanted = {header["name"]: header["value"] for header in match.get("headers", [])}
                named = match["method"]
                assert service == named["service"]
                if method == named.get("method", method) and wanted.items() <= headers.items():
                    fitting.append(("method" in named, len(wanted), is_repeated(route, rule)))
    return max(fitting)[-1]


PROXIES: dict[str, Callable[[str, Headers], bool]] = {
    "envoy": envoy_repeats,
    "istio": istio_repeats,
    "linkerd": partial(
        grpc_routes_repeat,
        "linkerd",
        lambda route, _: "retry.linkerd.io/grpc" in route["metadata"].get("annotations", {}),
    ),
    # Its rules have no retries of their own: their names say what a gateway's policy may repeat.
    "gateway-api": partial(
        grpc_routes_repeat,
        "gateway-api",
        lambda _, rule: rule["name"] in ("with-request-id", "resumes", "reads"),
    ),
}


def test_every_method_is_known_to_bear_repetition_or_not() -> None:
    """A new method fails here, until it is decided and then written into every file."""
    assert sorted([*ALWAYS, *WITH_REQUEST_ID, *NEVER]) == sorted(m.name for m in SERVICE.methods)


@pytest.mark.slow
@pytest.mark.parametrize("proxy", PROXIES)
def test_proxy_repeats_only_what_bears_it(proxy: str) -> None:
    """Fails with one rule for all but turns: updates and deletes are sent again then."""
    repeats = PROXIES[proxy]
    paths = {method.name: f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods}

    assert ALWAYS == {name for name, path in paths.items() if repeats(path, {})}
    marked = dict(RETRY_IS_SAFE)
    assert ALWAYS | WITH_REQUEST_ID == {name for name in paths if repeats(paths[name], marked)}


@pytest.mark.parametrize("folder", ["gateway-api", "linkerd"])
def test_routes_name_only_methods_that_there_are(folder: str) -> None:
    named = {
        match["method"]["method"]
        for route in manifests(folder)
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
        if "method" in match["method"]
    }
    assert named <= {method.name for method in SERVICE.methods}
