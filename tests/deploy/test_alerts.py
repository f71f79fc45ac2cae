"""Each alert, evaluated by Prometheus' own rules: it fires above its threshold, and not at it."""

import re

import pytest
import yaml

from support.envoys import ROOT
from support.prometheus import fires_at_s

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
OPERATIONS = ROOT / "docs" / "operations.md"
STEP_S, UNTIL_S = 30, 3600
TIMES = UNTIL_S // STEP_S
FOR_S = {
    rule["alert"]: rule.get("for", "0s")
    for group in yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]
}


def calls(code: str, values: str, method: str = "Chat") -> str:
    labels = f'grpc_service="parley.v1.ConversationService",grpc_method="{method}"'
    return f'grpc_server_handled_total{{{labels},grpc_code="{code}"}} {values}'


def rising(by: int) -> str:
    return f"0+{by}x{TIMES}"


def steady(value: float) -> str:
    return f"{value}x{TIMES}"


def turns(outcome: str, by: int) -> str:
    return f'parley_turns_total{{agent="a",outcome="{outcome}"}} {rising(by)}'


def full(in_use: int) -> list[str]:
    labels = 'instance="a",resource="open_chats"'
    return [
        f"parley_limit_in_use{{{labels}}} {steady(in_use)}",
        f"parley_limit{{{labels}}} {steady(100)}",
    ]


def reads(within_half_a_second: int) -> list[str]:
    labels = 'grpc_service="parley.v1.ConversationService",grpc_method="GetHistory"'
    buckets = {"0.5": within_half_a_second, "1": 100, "+Inf": 100}
    name = "grpc_server_handling_seconds_bucket"
    return [f'{name}{{{labels},le="{le}"}} {rising(by)}' for le, by in buckets.items()]


def ends(expired: int) -> list[str]:
    by_how = {"EXPIRED": expired, "RESUMED": 100 - expired}
    return [f'parley_wait_ends_total{{how="{how}"}} {rising(by)}' for how, by in by_how.items()]


WORKING = [calls("OK", rising(100)), f"parley_takeovers_total {steady(3)}"]
"""A worker that has nothing to complain of. It has lost no lease, so it has no series of it."""

CASES: dict[str, tuple[list[list[str]], list[list[str]]]] = {
    "ParleyWorkerGone": (
        [[f'up{{job="parley"}} 1x10 {steady(0)}']],
        [[f'up{{job="parley"}} {steady(1)}'], [f'up{{job="other"}} {steady(0)}']],
    ),
    "ParleyInternalErrors": (
        [
            [calls("INTERNAL", f"0x10 {rising(1)}")],
            [calls("INTERNAL", f"_x20 {steady(1)}")],
            [calls("UNKNOWN", f"_x20 {steady(1)}")],
        ],
        [WORKING, [calls("UNAVAILABLE", rising(1))]],
    ),
    "ParleyUnavailable": (
        [[calls("OK", rising(94)), calls("UNAVAILABLE", rising(6))]],
        [
            [calls("OK", rising(95)), calls("UNAVAILABLE", rising(5))],
            [calls("OK", rising(50)), calls("UNAVAILABLE", rising(50), "WatchConversation")],
        ],
    ),
    "ParleyAgentFails": (
        [[turns("COMPLETED", 89), turns("AGENT_TIMEOUT", 11)]],
        [[turns("COMPLETED", 90), turns("AGENT_TIMEOUT", 10)]],
    ),
    "ParleyOverloaded": (
        [[calls("RESOURCE_EXHAUSTED", rising(1))]],
        [[calls("RESOURCE_EXHAUSTED", steady(7))]],
    ),
    "ParleyNearlyFull": ([full(81)], [full(80)]),
    "ParleyDatabaseSlow": (
        [[f'parley_database_requests_waiting{{pool="claims"}} {steady(51)}']],
        [[f'parley_database_requests_waiting{{pool="claims"}} {steady(50)}']],
    ),
    "ParleyReadsSlow": ([reads(98)], [reads(100)]),
    "ParleyLeasesLost": (
        [
            [f"parley_takeovers_total {rising(1)}"],
            [
                f"parley_takeovers_total {steady(0)}",
                f'parley_leases_lost_total{{agent="a"}} {rising(1)}',
            ],
        ],
        [WORKING],
    ),
    "ParleyQueueOld": (
        [[f"parley_queue_oldest_seconds {steady(601)}"]],
        [[f"parley_queue_oldest_seconds {steady(600)}"]],
    ),
    "ParleyWaitsExpire": ([ends(11)], [ends(10)]),
    "ParleyKeysOld": (
        [[f"parley_jwks_age_seconds {steady(901)}"], ["parley_jwks_age_seconds" + " Inf" * TIMES]],
        [[f"parley_jwks_age_seconds {steady(900)}"]],
    ),
}
"""For each alert: what it fires for, and what it does not."""


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smh])", text).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def test_every_alert_has_a_case() -> None:
    assert FOR_S.keys() == CASES.keys()


@pytest.mark.parametrize("alert", CASES)
def test_alert_fires_above_its_threshold_and_not_at_it(alert: str) -> None:
    """Seen to fail for the first INTERNAL of a worker, which a rate does not see, and for takeovers
    without lost leases, whose sum had no value."""
    fires, quiet = CASES[alert]
    for series in fires:
        fired = fires_at_s(ALERTS, series, STEP_S, UNTIL_S)
        assert alert in fired, series
        assert fired[alert][0] >= seconds(FOR_S[alert]), series
    for series in quiet:
        assert alert not in fires_at_s(ALERTS, series, STEP_S, UNTIL_S), series


def test_nothing_fires_for_a_service_that_works() -> None:
    series = [
        *WORKING,
        f'up{{job="parley"}} {steady(1)}',
        turns("COMPLETED", 10),
        *full(50),
        *reads(100),
        *ends(0),
    ]
    assert {} == fires_at_s(ALERTS, series, STEP_S, UNTIL_S)


def test_first_internal_error_fires_at_once_and_no_longer_than_minutes() -> None:
    """Fails when the alert goes by the count: it would fire until the worker's end."""
    first_s = 19 * STEP_S
    once = calls("INTERNAL", f"_x19 {steady(1)}")
    fired = fires_at_s(ALERTS, [once], STEP_S, UNTIL_S)["ParleyInternalErrors"]
    assert first_s == fired[0]
    assert fired[1] <= first_s + 300


def test_runbook_has_a_line_for_each_alert_and_for_no_other() -> None:
    runbook = OPERATIONS.read_text().partition("\n## Runbook\n")[2].partition("\n## ")[0]
    assert FOR_S.keys() == set(re.findall(r"`(Parley\w+)`", runbook))
