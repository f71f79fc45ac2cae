"""Workers with an agents file: each agent's own settings, and the file read again under load."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from parley.v1 import conversation_service_pb2 as pb
from parley_server.config import BadSettings
from parley_server.process.agents import FiledAgents, agents_for
from parley_server.process.worker import Worker
from support import held_module
from support.fake_openai import FakeOpenAI, Say
from support.processes import ServerProcess, run
from support.services import (
    Service,
    StartService,
    an_id,
    refused,
    settings_for,
    until_true,
)

TWO = """default = "one"
[agents.one]
model = "openai-chat:any"
base_url = "{one}"
api_key = "$KEY_OF_ONE"
instructions = "You are One."
[agents.two]
model = "openai-chat:any"
base_url = "{two}"
[agents.bird]
model = "echo"
limits.reply_bytes = 5
"""


def write(path: Path, text: str) -> None:
    path.write_text(text)


def read(path: Path) -> str:
    return path.read_text()


@pytest.fixture
def fakes() -> Iterator[tuple[FakeOpenAI, FakeOpenAI]]:
    with FakeOpenAI([Say("I am One.")]) as one, FakeOpenAI([Say("I am Two.")]) as two:
        yield one, two


@pytest.fixture
def path(
    tmp_path: Path, fakes: tuple[FakeOpenAI, FakeOpenAI], monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setenv("KEY_OF_ONE", "sk-of-one")
    one, two = fakes
    path = tmp_path / "agents.toml"
    write(path, TWO.format(one=one.base_url, two=two.base_url))
    return path


def agents_of(service: Service) -> FiledAgents:
    agents = service.worker.agents
    assert isinstance(agents, FiledAgents)
    return agents


async def test_each_agent_has_its_own_settings(
    start_service: StartService, path: Path, fakes: tuple[FakeOpenAI, FakeOpenAI]
) -> None:
    service = await start_service(
        agents_file=path, instructions="You are a server's.", OPENAI_API_KEY="sk-of-the-server"
    )

    answers = [
        (await service.chat("Who are you?", agent=name)).response for name in ("", "two", "bird")
    ]

    assert ["I am One.", "I am Two.", "Who a"] == answers
    one, two = (fake.requests[0] for fake in fakes)
    assert "Bearer sk-of-one" == one.headers["authorization"]
    assert "sk-of-the-server" not in two.headers["authorization"]
    assert ["You are One.", "You are a server's."] == [
        request.json["messages"][0]["content"] for request in (one, two)
    ]
    assert ("INVALID_ARGUMENT", "AGENT_UNKNOWN") == await refused(service.chat(agent="three"))


def test_secrets_are_in_no_repr_and_in_no_log(
    database_url: str, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as logs:
        worker_settings = settings_for(database_url, agents_file=path, agent=None)

        async def look() -> str:
            worker = Worker(worker_settings)
            lineup = worker.agents.lineup
            seen = repr((lineup, list(worker.agents.roster), worker.agents.__dict__))
            await worker.agents.reload()
            write(path, read(path) + "[agents.four]\nmodel = 4\n")
            await worker.agents.reload()
            await worker.agents.close()
            return seen

        seen = asyncio.run(look())

    assert "sk-of-one" not in seen + repr(logs) + "".join(capfd.readouterr())


def test_instructions_that_cannot_be_used_are_refused_in_a_sentence(tmp_path: Path) -> None:
    bytes_file = tmp_path / "told.md"
    bytes_file.write_bytes(b"\xff\xfe")
    for changes, expected in (
        ({"instructions_file": bytes_file}, "is no text in UTF-8"),
        ({"instructions": "x" * 900, "context_tokens": 256}, "they fill the window of 256 tokens"),
    ):
        with pytest.raises(BadSettings, match=expected):
            agents_for(settings_for("postgresql://x/y", **changes))


def test_worker_refuses_a_wrong_file_with_all_of_its_problems(
    database_url: str, path: Path
) -> None:
    write(
        path,
        'default = "a"\n'
        '[agents.a]\nmodel = "nobody:x"\n[agents.b]\nmodel = "python:nowhere:agent"\n',
    )

    async def start() -> None:
        Worker(settings_for(database_url, agents_file=path, agent=None))

    with pytest.raises(BadSettings) as caught:
        asyncio.run(start())

    assert [
        "PARLEY_AGENTS_FILE cannot be used:",
        f"{path}:3: agents.a.model: 'nobody' is not a provider that pydantic-ai knows: for a "
        "server with OpenAI's protocol use openai-chat:MODEL and OPENAI_BASE_URL",
        f"{path}:5: agents.b.model: there is no module 'nowhere' in the working directory or "
        "among what is installed",
    ] == str(caught.value).splitlines()


async def test_reload_takes_what_is_new_and_keeps_what_is_the_same(
    start_service: StartService, path: Path
) -> None:
    service = await start_service(agents_file=path)
    agents = agents_of(service)
    before = {named.name: named for named in agents.roster}
    text = read(path).replace('default = "one"', 'default = "two"')
    text = text.replace('"You are One."', '"You are the first."').replace("bird", "parrot")
    write(path, f'{text}[agents.new]\nmodel = "echo:0"\n')

    with capture_logs() as logs:
        await agents.reload()

    after = {named.name: named for named in agents.roster}
    assert before["one"].agent is after["one"].agent
    assert before["two"] == after["two"]
    assert before["bird"].agent is after["parrot"].agent
    assert "You are the first." == after["one"].window.instructions
    assert "I am Two." == (await service.chat()).response
    assert [
        {
            "event": "agents file was read again",
            "log_level": "info",
            "added": ["parrot", "new"],
            "removed": ["bird"],
            "changed": ["one"],
            "unchanged": ["two"],
            "default": "two",
        }
    ] == logs


async def test_reload_of_a_wrong_file_changes_nothing_and_tells_each_problem(
    start_service: StartService, path: Path
) -> None:
    service = await start_service(agents_file=path)
    before = list(agents_of(service).roster)
    write(path, 'default = "x"\n[agents.one]\nmodel = "echo"\nlimits.seconds = 0\n')

    with capture_logs() as logs:
        await agents_of(service).reload()

    assert before == list(agents_of(service).roster)
    assert "I am One." == (await service.chat()).response
    problems = [entry["problem"] for entry in logs if "problem" in entry]
    assert [
        f"{path}:1: default: names no agent of this file: use one of one",
        f"{path}:4: agents.one.limits.seconds: must be greater than 0, for example 30",
    ] == problems


async def test_reload_with_an_agent_that_cannot_be_made_closes_those_made_in_vain(
    start_service: StartService, path: Path
) -> None:
    service = await start_service(agents_file=path)
    text = read(path)
    write(
        path,
        f'{text}[agents.held]\nmodel = "python:support.held_module:agent"\n'
        '[agents.never]\nmodel = "python:nowhere:agent"\n',
    )

    await agents_of(service).reload()

    assert ["one", "two", "bird"] == [named.name for named in agents_of(service).roster]
    await until_true(lambda: not held_threads())


def held_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "agent support.held_module:agent"]


async def turn_of_a_gone_agent(
    start_service: StartService, path: Path, **asked: Any
) -> tuple[Service, "asyncio.Task[pb.ChatResponse]"]:
    """Begin a turn of the agent `held`, and remove that from the file while it answers."""
    text = read(path)
    write(path, f'{text}[agents.held]\nmodel = "python:support.held_module:agent"\n')
    held_module.entered.clear()
    held_module.opened.clear()
    service = await start_service(agents_file=path)
    turn = asyncio.create_task(service.chat(**asked))
    await asyncio.to_thread(held_module.entered.wait, 20)
    write(path, text)
    await agents_of(service).reload()
    return service, turn


async def test_attempt_keeps_its_agent_which_is_closed_after_it(
    start_service: StartService, path: Path
) -> None:
    """Fails without Uses: the agent is closed under the turn, which then fails."""
    service, turn = await turn_of_a_gone_agent(start_service, path, agent="held")

    assert ("INVALID_ARGUMENT", "AGENT_UNKNOWN") == await refused(service.chat(agent="held"))
    assert 1 == len(held_threads())
    held_module.opened.set()
    assert "held" == (await turn).response
    await until_true(lambda: not held_threads())


async def test_turn_is_followed_and_replayed_by_its_call_when_its_agent_is_gone(
    start_service: StartService, path: Path
) -> None:
    """Fails if the call's agent is looked for first: a lost stream could not be taken up again."""
    asked: dict[str, Any] = {"agent": "held", "conversation_id": an_id(), "allow_missing": True}
    service, turn = await turn_of_a_gone_agent(start_service, path, **asked, request_id="r1")
    try:
        following = aiter(service.stream(**asked, request_id="r1"))
        started = await anext(following)
        begun = await service.start(**asked, request_id="r1")
    finally:
        held_module.opened.set()
    told = [event async for event in following]

    assert started.HasField("started")
    assert begun.replayed
    assert ["held", "held"] == [(await turn).response, told[-1].completed.response]
    assert (await service.chat(**asked, request_id="r1")).replayed
    unknown = ("INVALID_ARGUMENT", "AGENT_UNKNOWN")
    assert unknown == await refused(service.chat(**asked, request_id="r2"))
    assert unknown == await refused(service.chat(**{**asked, "agent": "x"}, request_id="r1"))


@pytest.mark.slow
async def test_reload_under_load_loses_no_turn(
    start_service: StartService, path: Path, fakes: tuple[FakeOpenAI, FakeOpenAI]
) -> None:
    """Fails where an agent is closed at once: calls under way lose their connections."""
    one, two = (fake.base_url for fake in fakes)
    service = await start_service(agents_file=path)
    answers: list[str] = []
    is_over = asyncio.Event()

    async def talk(agent: str) -> None:
        while not is_over.is_set():
            answers.append((await service.chat(agent=agent)).response)

    async def listen(agent: str) -> None:
        while not is_over.is_set():
            events = [event async for event in service.stream(agent=agent)]
            answers.append(events[-1].completed.response)

    def has_more_than(count: int) -> bool:
        return len(answers) > count

    load = [asyncio.create_task(work(name)) for work in (talk, listen) for name in ("", "two")]
    for number in range(20):
        urls = {"one": two, "two": one} if number % 2 == 0 else {"one": one, "two": two}
        write(path, TWO.format(**urls))
        so_far = len(answers)
        await agents_of(service).reload()
        await until_true(partial(has_more_than, so_far + 4))
    is_over.set()
    await asyncio.gather(*load)

    assert {"I am One.", "I am Two."} == set(answers)
    assert 2 == len(agents_of(service).lineup.made) - 1
    await until_true(lambda: not agents_of(service).closing)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_sighup_has_every_worker_read_the_file_again(
    database_url: str, tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "agents.toml"
    write(path, '[agents.old]\nmodel = "echo"\n')
    with ServerProcess(database_url, agent="", agents_file=path, workers=workers) as server:
        assert "with the agent old." in "".join(server.output)
        write(path, 'default = "new"\n[agents.old]\nmodel = "echo"\n[agents.new]\nmodel = "echo"\n')
        server.signal(signal.SIGHUP)
        await until_true(lambda: workers == told(server, "agents file was read again"))
        for _ in range(8):
            assert "hello" == (await server.chat(agent="new")).response
        write(path, "[agents.old]\nmodel = echo\n")
        server.signal(signal.SIGHUP)
        await until_true(lambda: workers == told(server, f"{path}:2: is not valid TOML"))
        assert "hello" == (await server.chat(agent="new")).response
        code = await asyncio.to_thread(server.stop)

    assert 0 == code


@pytest.mark.slow
async def test_local_model_of_a_file_serves_all_workers(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "agents.toml"
    text = '[agents.small]\nmodel = "local"\nlimits.output_tokens = 16\n'
    write(path, f'default = "bird"\n{text}[agents.bird]\nmodel = "echo"\n')
    with ServerProcess(database_url, agent="", agents_file=path, workers=2) as server:
        assert "with the agents small and bird (default)." in "".join(server.output)
        answers = [await server.chat("Tell me a long story.", agent="small") for _ in range(2)]
        models = 1 == sum("local_server.py" in line for line in command_lines(server))
        await asyncio.to_thread(server.stop)

    assert models
    assert {"local"} == {answer.model for answer in answers}
    assert all(answer.usage.output_tokens <= 16 for answer in answers)


def command_lines(server: ServerProcess) -> list[str]:
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [" ".join(child.cmdline()) for child in children]


def told(server: ServerProcess, text: str) -> int:
    return sum(text in line for line in server.output)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PARLEY_AGENT": "echo"}, "PARLEY_AGENT and PARLEY_AGENTS_FILE are both set: choose one"),
        ({}, "agents.toml: does not exist: create it, or correct its path"),
    ],
)
def test_serve_refuses_in_a_sentence(
    environment: dict[str, str], expected: str, tmp_path: Path
) -> None:
    done = run("serve", PARLEY_AGENTS_FILE=str(tmp_path / "agents.toml"), **environment)

    assert 1 == done.returncode
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def labels_of(metrics: Any, name: str) -> set[str]:
    return {
        sample.labels["agent"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value
    }


async def test_metrics_count_the_default_agent_under_its_name_and_go_on_after_a_reload(
    start_service: StartService, path: Path
) -> None:
    service = await start_service(agents_file=path, metrics_listen="127.0.0.1:0")
    await service.chat()
    write(path, read(path).replace('default = "one"', 'default = "bird"'))
    await agents_of(service).reload()
    await service.chat()

    assert {"one", "bird"} == labels_of(service.worker.metrics, "parley_turns_total")
    assert {"one", "bird"} == labels_of(service.worker.metrics, "parley_agent_seconds_count")


@pytest.mark.parametrize(("name", "can"), [("echo", True), ("a2a+grpc://127.0.0.1:9", False)])
async def test_an_agent_on_another_server_rehearses_only_if_a_file_says_so(
    name: str, can: bool
) -> None:
    """Fails when PARLEY_AGENT takes a remote agent for any other: it may act."""
    made = agents_for(settings_for("postgresql://127.0.0.1:1/none", agent=name))

    assert can is made.roster.default.can_rehearse
    await made.close()
