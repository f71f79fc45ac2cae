"""Which calls each proxy sends again though they may have been carried out: those that bear it."""

from collections.abc import Callable

import pytest

from parley.v1 import conversation_service_pb2 as pb
from parley_client.calls import RETRY_IS_SAFE
from support.proxy_routes import Headers, envoy_route, grpc_route, istio_rule, manifests

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

TRIED_BY_GRPC = {"grpc-previous-rpc-attempts": "1"}


def is_beyond_unsent(retry_on: str) -> bool:
    """Whether a policy repeats more than what has never reached a worker."""
    return not set(retry_on.split(",")) <= UNSENT


def envoy_repeats(path: str, headers: Headers) -> bool:
    return is_beyond_unsent(envoy_route(path, headers)["retry_policy"]["retry_on"])


def istio_repeats(path: str, headers: Headers) -> bool:
    return is_beyond_unsent(istio_rule(path, headers)["retries"]["retryOn"])


def linkerd_repeats(path: str, headers: Headers) -> bool:
    route, _ = grpc_route("linkerd", path, headers)
    return "retry.linkerd.io/grpc" in route["metadata"].get("annotations", {})


def gateway_repeats(path: str, headers: Headers) -> bool:
    """Its rules have no retries of their own: names say what a gateway's policy may repeat."""
    _, rule = grpc_route("gateway-api", path, headers)
    return rule["name"] in ("with-request-id", "resumes-and-erasures", "reads")


PROXIES: dict[str, Callable[[str, Headers], bool]] = {
    "envoy": envoy_repeats,
    "istio": istio_repeats,
    "linkerd": linkerd_repeats,
    "gateway-api": gateway_repeats,
}
PATHS = {method.name: f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods}


def test_every_method_is_known_to_bear_repetition_or_not() -> None:
    """A new method fails here, until it is decided and then written into every file."""
    assert sorted([*ALWAYS, *WITH_REQUEST_ID, *NEVER]) == sorted(m.name for m in SERVICE.methods)


@pytest.mark.parametrize("proxy", PROXIES)
def test_proxy_repeats_only_what_bears_it(proxy: str) -> None:
    """Fails with one rule for all but turns: updates and deletes are sent again then."""
    repeats = PROXIES[proxy]

    assert ALWAYS == {name for name, path in PATHS.items() if repeats(path, {})}
    marked = dict(RETRY_IS_SAFE)
    assert ALWAYS | WITH_REQUEST_ID == {name for name in PATHS if repeats(PATHS[name], marked)}


@pytest.mark.parametrize("proxy", ["envoy", "istio"])
def test_proxy_does_not_repeat_what_grpc_repeats_already(proxy: str) -> None:
    """Fails when a rule says nothing of that header: a call is then sent 15 times."""
    headers = {**dict(RETRY_IS_SAFE), **TRIED_BY_GRPC}
    assert set() == {name for name, path in PATHS.items() if PROXIES[proxy](path, headers)}


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
