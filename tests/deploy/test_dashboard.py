"""Each query of the dashboard and of the autoscaler's adapter, by Prometheus over real metrics."""

import asyncio
import json
import math
import re
from itertools import combinations
from typing import Any

import httpx2
import pytest
import yaml

from support.deploy_tools import built
from support.envoys import ROOT
from support.helm import merged, rendered, the_one, values_of
from support.issuer import Issuer, a_signing_key
from support.prometheus import Answer, Page, answers
from support.services import Service, StartService, an_id, refused
from support.waiting import WEATHER, AskingAgent, result

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "parley.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ADAPTER = yaml.safe_load((ROOT / "deploy" / "prometheus" / "adapter.yaml").read_text())["rules"]
SERIES = re.compile(r"\b(?:grpc_server|parley)_[a-z_]+\b")
PARTS = re.compile(r"_(?:bucket|sum|count)$")
ANYWHERE = "127.0.0.1:0"
STEP_S = 30


def as_asked(expression: str) -> str:
    """Return a panel's query as Grafana sends it."""
    values = {"job": "parley", "instance": ".*", "__rate_interval": "2m"}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expression)


QUERIES = [as_asked(target["expr"]) for panel in PANELS for target in panel["targets"]]


async def load(service: Service) -> None:
    """Make every kind of call that a panel shows."""
    turn = await service.chat(request_id=an_id(), tools=[WEATHER])
    which = {"conversation_id": turn.conversation_id, "turn_id": turn.turn_id}
    await service.resume(result(turn.pending_calls[0]), **which)
    await service.history(turn.conversation_id)
    await service.conversations()
    await refused(service.history(an_id()))
    started = (await service.start(tools=[WEATHER])).turn
    await service.until_turn(started, "WAITING")
    await service.cancel(conversation_id=started.conversation_id, turn_id=started.turn_id)


NEVER_FETCHED = "parley_jwks_age_seconds +Inf"


async def page_of(service: Service, at_s: int, instance: str) -> Page:
    async with httpx2.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{service.worker.metrics_port}/metrics"
        text = (await client.get(url, timeout=60)).text
    target = {"job": "parley", "instance": instance, "pod": instance, "namespace": "chats"}
    return Page(at_s, text, {**target, "service": "parley-metrics"})


@pytest.fixture
async def pages(start_service: StartService) -> list[Page]:
    """What Prometheus has scraped of a loaded worker, and of one that fetches the issuer's keys."""
    built("ENGINE")
    loaded = await start_service(AskingAgent(), metrics_listen=ANYWHERE)
    found = []
    async with Issuer().running() as issuer:
        issuer.publish(a_signing_key())
        settings = {"auth_hs256_secret": None, "metrics_listen": ANYWHERE}
        other = await start_service(auth_jwks_url=issuer.url, **settings)
        while NEVER_FETCHED in (await page_of(other, 0, "b")).text:
            await asyncio.sleep(0.1)  # a worker looks at its gauges once a second
        for number in range(4):
            await load(loaded)
            for service, instance in ((loaded, "a"), (other, "b")):
                found.append(await page_of(service, number * STEP_S, instance))
    return found


def problems(queries: list[str], found: list[Answer]) -> list[str]:
    """Return the queries that show nothing, each with why."""
    wrong = [
        f"{query}: {answer.error or 'no value'}"
        for query, answer in zip(queries, found, strict=True)
        if answer.error or not any(math.isfinite(value) for _, value in answer.series)
    ]
    assert found
    return wrong


async def test_every_query_shows_something_of_a_loaded_service(pages: list[Page]) -> None:
    """Seen to fail with a series, a label and a status that are misspelt: the second assertion."""
    at_s = 3 * STEP_S
    assert [] == problems(QUERIES, answers(pages, QUERIES, at_s))
    misspelt = [
        'sum(rate(parley_turn_total{job="parley"}[2m]))',
        'sum(rate(parley_turns_total{jobs="parley"}[2m]))',
        'sum by (le) (rate(grpc_server_handled_total{grpc_code="ok"}[2m]))',
        "sum(rate(parley_turns_total))",
    ]
    assert len(misspelt) == len(problems(misspelt, answers(pages, misspelt, at_s)))

    # "… or vector(0)" shows something whatever stands before it.
    types = set(re.findall(r"(?m)^# TYPE (\w+) ", pages[0].text + pages[1].text))
    named = {PARTS.sub("", name) for query in QUERIES for name in SERIES.findall(query)}
    assert set() == named - types

    rules = [*ADAPTER["custom"], *ADAPTER["external"]]
    matchers = ('namespace="chats",pod=~"a|b"', 'namespace="chats",service="parley-metrics"')
    adapted = [
        rule["metricsQuery"].replace("<<.LabelMatchers>>", given).replace("<<.GroupBy>>", by)
        for rule, given, by in zip(rules, matchers, ("pod", "namespace"), strict=True)
    ]
    by_pod, of_all = answers(pages, adapted, at_s)
    assert [{"pod": "a"}, {"pod": "b"}] == sorted((s[0] for s in by_pod.series), key=str)
    assert [{"namespace": "chats"}] == [labels for labels, _ in of_all.series]


def test_autoscaler_asks_for_what_the_adapter_makes() -> None:
    values = merged(values_of("plain"), {"autoscaling": {"enabled": True}})
    spec = the_one(rendered(values), "HorizontalPodAutoscaler")["spec"]["metrics"]
    asked = [spec[0]["pods"]["metric"]["name"], spec[1]["external"]["metric"]["name"]]
    rules = [*ADAPTER["custom"], *ADAPTER["external"]]
    assert asked == [rule["name"]["as"] for rule in rules]
    assert {"service": "parley-metrics"} == spec[1]["external"]["metric"]["selector"]["matchLabels"]


def test_monitor_for_prometheus_operator_finds_the_metrics_and_nothing_else() -> None:
    """And calls them as the alerts do: by the operator's default, the job is the Service's name."""
    monitor = yaml.safe_load((ROOT / "deploy" / "prometheus" / "operator.yaml").read_text())["spec"]
    found = [
        service
        for service in rendered(values_of("plain"))
        if service["kind"] == "Service"
        and monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        and monitor["endpoints"][0]["port"] in {p["name"] for p in service["spec"]["ports"]}
    ]
    assert ["parley-metrics"] == [service["metadata"]["name"] for service in found]
    assert "parley" == found[0]["metadata"]["labels"][monitor["jobLabel"]]


def test_panels_have_a_title_a_unit_and_a_place_of_their_own() -> None:
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len({panel["title"] for panel in everything}) == len(everything)

    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        return {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }

    assert not any(cells(a) & cells(b) for a, b in combinations(everything, 2))
    for panel in PANELS:
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert "${datasource}" == panel["datasource"]["uid"]
        assert all('job="$job", instance=~"$instance"' in t["expr"] for t in panel["targets"])
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert {"datasource", "job", "instance"} == variables
