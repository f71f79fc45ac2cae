"""Names of agents, and the errors for unusable ones."""

import subprocess
import sys

import pytest

from parley_server.agents.catalog import close_agent, create_agent
from parley_server.agents.errors import BadAgent
from support.agent_runs import told_by
from support.fake_openai import FakeOpenAI, Say


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "use local, echo, PROVIDER:MODEL"),
        ("gpt-5", "use local, echo, PROVIDER:MODEL"),
        ("openai:", "use local, echo, PROVIDER:MODEL"),
        (":gpt-5", "use local, echo, PROVIDER:MODEL"),
        ("openai:gpt-5", "OPENAI_API_KEY must be set"),
        ("openai-chat:gpt-5", "OPENAI_API_KEY must be set"),
        ("anthropic:claude-sonnet-5", "needs ANTHROPIC_API_KEY to be set"),
        ("mistral:any", "pip install 'pydantic-ai-slim[mistral]'"),
        ("nobody:any", "'nobody' is not a provider that pydantic-ai knows"),
        ("echo:soon", "echo needs a number of seconds"),
        ("echo:-1", "echo needs a number of seconds"),
        ("echo:inf", "echo needs a number of seconds"),
        ("local", "the local model is not running"),
        ("python:", "must be python:MODULE:ATTRIBUTE"),
        ("python:module", "must be python:MODULE:ATTRIBUTE"),
        ("python:no_such_module:agent", "there is no module 'no_such_module'"),
        ("python:parley_server.nothing:agent", "there is no module 'parley_server.nothing'"),
    ],
)
def test_a_bad_name_is_refused_in_one_sentence(name: str, expected: str) -> None:
    with pytest.raises(BadAgent) as caught:
        create_agent(name)

    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "url",
    ["localhost:8000/v1", "http:///v1", "http://h:99999/v1", "http://h/v1\n", "http://[::1/v1"],
)
def test_a_bad_base_url_is_refused(url: str) -> None:
    with pytest.raises(BadAgent, match="OPENAI_BASE_URL must be an http or https URL"):
        create_agent("openai-chat:any", openai_base_url=url)


@pytest.mark.parametrize("key", ["sk-any\n", " sk-any", "sk-\u00e9", "sk-\u200bany"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails if each turn finds out by itself, as if the provider were away."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    for name, called in (("openai:gpt-5", "OPENAI_API_KEY"), ("anthropic:any", "its key")):
        with pytest.raises(BadAgent, match=f"{called} must be printable ASCII") as caught:
            create_agent(name, openai_api_key=key)
        assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "model", "context_tokens"),
    [("openai:gpt-5", "gpt-5", 400_000), ("openai-chat:mine", "mine", None)],
)
def test_a_model_string_becomes_an_agent_that_knows_its_model(
    name: str, model: str, context_tokens: int | None
) -> None:
    agent = create_agent(name, openai_api_key="any")

    assert (model, context_tokens) == (agent.model, agent.context_tokens)


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")

    with pytest.raises(BadAgent, match="OPENAI_API_KEY must be set"):
        create_agent("openai:gpt-5", openai_base_url="", openai_api_key="")
    with pytest.raises(BadAgent, match="needs ANTHROPIC_API_KEY to be set"):
        create_agent("anthropic:claude-sonnet-5")


def test_another_providers_empty_base_url_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from parley_server.agents.model_strings import model_of

    monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "")

    assert model_of("anthropic:claude-sonnet-5").base_url == "https://api.anthropic.com"


async def test_a_server_of_ones_own_needs_no_key() -> None:
    with FakeOpenAI([Say("Fine.")]) as fake:
        agent = create_agent("openai-chat:any", openai_base_url=fake.base_url)
        await told_by(agent)
        await close_agent(agent)

        assert "Bearer none" == fake.requests[0].headers["authorization"]


async def test_the_key_goes_to_the_provider() -> None:
    with FakeOpenAI([Say("Fine.")]) as fake:
        agent = create_agent(
            "openai-chat:any", openai_base_url=fake.base_url, openai_api_key="key-1"
        )
        await told_by(agent)
        await close_agent(agent)

        assert "Bearer key-1" == fake.requests[0].headers["authorization"]


async def test_an_agent_without_anything_to_close_can_be_closed() -> None:
    await close_agent(create_agent("echo"))


def test_the_libraries_of_providers_are_imported_only_for_those_who_use_them() -> None:
    """They take two to three seconds, and a hundred megabytes in every worker."""
    code = (
        "import sys\n"
        f"sys.path[:] = {sys.path!r}\n"
        "from parley_server.agents.catalog import create_agent\n"
        "create_agent('echo')\n"
        "heavy = ('pydantic_ai', 'openai', 'pydantic', 'a2a', 'grpc')\n"
        "print([m for m in heavy if m in sys.modules])\n"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == said.stdout.strip()
