"""Values that are wrong: helm refuses them, with what is wrong."""

import json
from typing import Any

import pytest
import yaml

from support.helm import CHART, Refused, merged, rendered, values_of

PLAIN = values_of("plain")

WRONG = {
    "misspelt": ({"settings": {"max_open_chat": 3}}, "'max_open_chat' not allowed"),
    "too small": ({"settings": {"max_open_chats": 0}}, "/settings/max_open_chats': minimum"),
    "unknown": ({"replica": 3}, "'replica' not allowed"),
    "text for a number": ({"replicas": "three"}, "/replicas': got string, want integer"),
    "no audience": ({"auth": {"audience": ""}}, "/auth/audience': minLength"),
    "no agent": ({"agent": {"name": ""}}, "set agent.name, for example openai:gpt-5-mini"),
    "two agents": ({"agent": {"file": "[agents.a]"}}, "agent.name and agent.file are both set"),
    "two keys": ({"auth": {"hs256": {"secret": "a"}}}, "hs256.secret: 2 are set"),
    "no keys": ({"auth": {"keys": {"secret": ""}}}, "hs256.secret: 0 are set"),
    "keys over http": (
        {"auth": {"keys": {"secret": ""}, "jwksUrl": "http://a"}},
        "/auth/jwksUrl': 'http://a' does not match pattern",
    ),
    "short drain": ({"drainS": 100}, "drainS, 100, must be longer than a turn may take"),
    "long turns": ({"settings": {"chat_timeout_s": 300}}, "settings.chat_timeout_s, 300"),
    "client authority alone": ({"tls": {"clientCa": True}}, "tls.clientCa: set tls.secret too"),
    "probe's certificate alone": (
        {"tls": {"secret": "a", "probeSecret": "a"}},
        "tls.probeSecret is presented only where",
    ),
    "no metrics to scale by": (
        {"autoscaling": {"enabled": True}, "metrics": {"enabled": False}},
        "autoscaling goes by metrics: set metrics.enabled",
    ),
    "more than most": (
        {"autoscaling": {"enabled": True, "minReplicas": 11}},
        "autoscaling.minReplicas is more than autoscaling.maxReplicas",
    ),
    "everyone calls": ({"networkPolicy": {"callers": []}}, "/networkPolicy/callers': minItems"),
    # A null takes the default away, and the schema sees nothing to refuse.
    "everyone calls, by a null": (
        {"networkPolicy": {"callers": None}},
        "networkPolicy.callers is null: to Kubernetes, that is everyone",
    ),
    "the Job reaches everything": (
        {"networkPolicy": {"database": None}},
        "networkPolicy.database.peers is null",
    ),
    "peers without a port": (
        {"networkPolicy": {"migrateDatabase": {"peers": [{"podSelector": {}}]}}},
        "/networkPolicy/migrateDatabase'",
    ),
    "egress to everywhere": (
        {"networkPolicy": {"extraEgress": [{"ports": [{"port": 1}]}]}},
        "extraEgress/0': missing property 'to'",
    ),
    "secret in the open": (
        {"env": [{"name": "SHOP_KEY", "value": "sk-1"}]},
        "/env/0/value': got string, want null",
    ),
    "secret in the agents file": (
        {"agent": {"name": "", "file": '[agents.a]\nmodel = "echo"\napi_key = "sk-1"\n'}},
        "api_key and token have to be $VARIABLES",
    ),
    "a setting as a variable": ({"env": [{"name": "PARLEY_AGENT", "value": "x"}]}, "/env/0/name'"),
    "selector's label": ({"podLabels": {"app": "x"}}, "invalid propertyName 'app'"),
    "a label twice": (
        {"podLabels": {"app.kubernetes.io/version": "x"}},
        "invalid propertyName 'app.kubernetes.io/version'",
    ),
    "short digest": ({"image": {"digest": "sha256:12"}}, "/image/digest"),
}


@pytest.mark.parametrize(("values", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_values_are_refused_with_what_is_wrong(values: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        rendered(merged(PLAIN, values))
    assert message in str(refused.value)


def test_long_names_of_releases_fit_and_stay_apart() -> None:
    """Fails when names are only cut: the second release would find the first one's objects."""
    names = [
        {(m["kind"], m["metadata"]["name"]) for m in rendered(PLAIN, release)}
        for release in ("r" * 52 + "1", "r" * 52 + "2")
    ]
    assert not names[0] & names[1]
    assert max(len(name) for _, name in names[0]) <= 63


@pytest.mark.parametrize("release", ["1st", "shop.chats"])
def test_name_that_no_service_may_have_is_refused(release: str) -> None:
    with pytest.raises(Refused, match=r"cannot be the name of a Service.* set nameOverride"):
        rendered(PLAIN, release)
    assert rendered(merged(PLAIN, {"nameOverride": "chats"}), release)


def test_every_value_is_in_the_schema_and_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values.keys() == schema["properties"].keys() - {"global"}
