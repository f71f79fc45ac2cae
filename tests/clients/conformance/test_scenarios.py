"""The scenario file is sound, and the Python runner finds what is not as a scenario says."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from parley_server.core.model import AgentEvent, AgentRun, Finish
from support.agents import ScriptedAgent, say_back
from support.services import StartService, a_token

CLIENTS = Path(__file__).parents[3] / "clients"
FOLDER = CLIENTS / "conformance"
SCHEMA = json.loads((FOLDER / "schema.json").read_text("utf-8"))
SCENARIOS: list[dict[str, Any]] = json.loads((FOLDER / "scenarios.json").read_text("utf-8"))[
    "scenarios"
]
VALID = Draft202012Validator(SCHEMA)
REPORTED = ("name", "ok", "why", "ms")


def a_scenario(*steps: dict[str, Any], **further: Any) -> dict[str, Any]:
    return {"name": "tried", "about": "For a test.", "steps": list(steps), **further}


def a_chat(**further: Any) -> dict[str, Any]:
    return {"call": "chat", "with": {"message": "hello"}, **further}


def is_valid(scenario: dict[str, Any]) -> bool:
    return bool(VALID.is_valid({"version": 1, "scenarios": [scenario]}))


# The file


@pytest.mark.slow
def test_scenario_file_fits_its_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    found = VALID.iter_errors({"version": 1, "scenarios": SCENARIOS})

    assert [] == [(list(error.path), error.message) for error in found]


def test_scenarios_have_names_of_their_own() -> None:
    names = [scenario["name"] for scenario in SCENARIOS]

    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_scenario_names_nothing_before_it_is_there(scenario: dict[str, Any]) -> None:
    known = {"id", *scenario.get("let", {})}
    background: set[str] = set()
    for step in scenario["steps"]:
        if "wait" in step:
            assert step["wait"] in background
            known.add(step["wait"])
        used = set(_used(step))
        own = {step["as"]} if "as" in step and not step.get("background") else set()
        assert not set(_used(step.get("with", {}))) - known
        assert not used - known - own
        known |= own
        if step.get("background"):
            background.add(step["as"])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_scenario_waits_for_what_it_leaves_in_the_background(scenario: dict[str, Any]) -> None:
    """A call that nothing waits for may fail, and the scenario would pass."""
    steps = scenario["steps"]
    background = {step["as"] for step in steps if step.get("background")}

    assert not background - {step["wait"] for step in steps if "wait" in step}


def _used(step: dict[str, Any]) -> Iterator[str]:
    yield from re.findall(r"\$\{(\w+)", json.dumps(step))


@pytest.mark.parametrize(
    "step",
    [
        a_chat(clent="bob"),
        a_chat(client="eve"),
        a_chat(background=True),
        a_chat(background=True, **{"as": "a"}, expect={"response": "hello"}),
        a_chat(until={"events": 1}),
        a_chat(expect={"response": {"equals": "hello"}}),
        a_chat(expect={"response": {"present": True, "matches": "h"}}),
        a_chat(expect={"userSequence": 1}),
        a_chat(expect={}),
        {"call": "chat", "with": {"text": "hello"}},
        {"call": "chat"},
        {"call": "chatter", "with": {"message": "hello"}},
        {"call": "watch", "with": {"conversation_id": "c"}},
        {"call": "list_agents", "with": {}},
        {"call": "rehearse_turn", "with": {"request_id": "r", "message": "m"}},
        {"call": "rehearse_turn", "with": {"request_id": "r"}, "background": True, "as": "a"},
        {"call": "watch_turns", "with": {}},
        {"call": "watch_turns", "with": {}, "until": {"messages": 1}},
        {"call": "start_turn", "with": {"message": "hello", "on_busy": "wait"}},
        {"call": "history", "with": {"conversation_id": "c", "page_token": "t"}},
        {"call": "turn", "eventually": True},
        {"wait": "a", "call": "chat", "with": {"message": "hello"}},
    ],
    ids=json.dumps,
)
def test_schema_refuses_a_step_that_no_runner_knows(step: dict[str, Any]) -> None:
    assert is_valid(a_scenario(a_chat()))
    assert not is_valid(a_scenario(step))


# The runner


async def played(
    address: str, *scenarios: dict[str, Any], kind: str = "sync", folder: Path
) -> list[dict[str, Any]]:
    """Play scenarios with the Python runner. Returns: what it says of each."""
    chosen, parameters = folder / "scenarios.json", folder / "parameters.json"
    chosen.write_text(json.dumps({"version": 1, "scenarios": scenarios}), "utf-8")
    clients = {
        "ada": {"address": address, "token": a_token()},
        "no_token": {"address": address, "token": ""},
    }
    parameters.write_text(json.dumps({"scenarios": str(chosen), "clients": clients}), "utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "conformance/runner.py", kind),
        cwd=CLIENTS / "python",
        env={**os.environ, "PARLEY_CONFORMANCE": str(parameters)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert 0 == process.returncode
    return [json.loads(line) for line in output.splitlines()]


RIGHT: dict[str, Any] = {
    "response": "HELLO",
    "user_sequence": 1,
    "replayed": False,
    "tool_calls": {"length": 0},
    "conversation_id": {"matches": "^[0-9a-f-]{36}$"},
    "turn_id": {"present": True},
    "usage": {"present": False},
    "finish_reason": {"one_of": ["FINISH_REASON_LENGTH", "FINISH_REASON_STOP"]},
    "context.message_count": {"not": 2},
    "model": {"not": ""},
    "response_sequence": "2",
}
WRONG: dict[str, Any] = {
    "response": "hello",
    "user_sequence": 2,
    "replayed": True,
    "tool_calls": {"length": 1},
    "conversation_id": {"matches": "^[0-9]$"},
    "turn_id": {"present": False},
    "usage": {"present": True},
    "finish_reason": {"one_of": ["FINISH_REASON_LENGTH"]},
    "context.message_count": {"not": 1},
    "model": "",
    "no_such_field": "HELLO",
    "response_sequence": "02",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_runner_passes_what_is_as_expected_and_fails_each_wrong_expectation(
    start_service: StartService, tmp_path: Path, kind: str
) -> None:
    address = f"127.0.0.1:{(await start_service()).port}"
    right = a_scenario(a_chat(expect=RIGHT))
    wrong = [a_scenario(a_chat(expect={path: expected})) for path, expected in WRONG.items()]
    told = await played(address, right, *wrong, kind=kind, folder=tmp_path)

    assert all(is_valid(scenario) for scenario in [right, *wrong])
    assert [True, *[False] * len(wrong)] == [line["ok"] for line in told]
    assert {REPORTED} == {tuple(line) for line in told}
    for path, line in zip(WRONG, told[1:], strict=True):
        assert line["why"].startswith(f"step 1 (chat), {path}: expected ")


async def say_and_hold(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    """Answer as usual; what is streamed comes before the end, and so as a piece, not with it."""
    async for event in say_back(run):
        if isinstance(event, Finish) and run.window.messages[-1].content == "hold":
            await asyncio.Event().wait()  # until the caller goes
        yield event


READ = {"conversation_id": "${a.conversation_id}"}
STARTED: dict[str, Any] = {"call": "stream", "with": {"message": "hold"}, "until": {"events": 1}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "why"),
    [
        pytest.param(
            [a_chat(client="no_token")],
            "step 1 (chat), ended with UNAUTHENTICATED UNAUTHENTICATED: ",
            id="an error that nobody expects",
        ),
        pytest.param(
            [a_chat(client="no_token", expect={"error.reason": "SCOPE_MISSING"})],
            "step 1 (chat), error.reason: expected 'SCOPE_MISSING', found 'UNAUTHENTICATED'",
            id="another error",
        ),
        pytest.param(
            [a_chat(expect={"error.code": "NOT_FOUND"})],
            "step 1 (chat), error.code: expected 'NOT_FOUND', found None",
            id="no error",
        ),
        pytest.param(
            [
                {**a_chat(), "background": True, "as": "a"},
                {"wait": "a", "expect": {"response": "hello"}},
            ],
            "step 2 (wait a), response: expected 'hello', found 'HELLO'",
            id="in the background",
        ),
        pytest.param(
            [{**STARTED, "expect": {"indexes": {"counts_from": 1}}}],
            "step 1 (stream), indexes: expected {'counts_from': 1}, found [0]",
            id="another count",
        ),
        pytest.param(
            [{**STARTED, "expect": {"text": {"prefix_of": "HELP"}}}],
            "step 1 (stream), text: expected {'prefix_of': 'HELP'}, found 'HOLD'",
            id="no prefix",
        ),
        pytest.param(
            [
                a_chat(**{"as": "a"}),
                {"call": "history", "with": READ, "expect": {"messages.*.sequence": [1]}},
            ],
            "step 2 (history), messages.*.sequence: expected [1], found ['1', '2']",
            id="one too many",
        ),
        pytest.param(
            [
                a_chat(**{"as": "a"}),
                {
                    "call": "history",
                    "with": READ,
                    "expect": {"messages.*.sequence": {"same_items": [1, 3]}},
                },
            ],
            "step 2 (history), messages.*.sequence: expected {'same_items': [1, 3]}, found ['1',",
            id="other items",
        ),
        pytest.param(
            [a_chat(**{"as": "a"}), a_chat(expect={"turn_id": "${a.turn_id}"})],
            "step 2 (chat), turn_id: expected ",
            id="another result's value",
        ),
    ],
)
async def test_runner_says_what_is_not_as_expected(
    start_service: StartService, tmp_path: Path, steps: list[dict[str, Any]], why: str
) -> None:
    address = f"127.0.0.1:{(await start_service(ScriptedAgent(say_and_hold))).port}"
    scenario = a_scenario(*steps)
    [told] = await played(address, scenario, folder=tmp_path)

    assert is_valid(scenario)
    assert (False, why) == (told["ok"], told["why"][: len(why)])
