"""What a right file becomes: secrets filled in, paths absolute; and which agents stay the same."""

from pathlib import Path
from typing import Any

import pytest

from parley_server.agents.catalog import Surroundings
from parley_server.agents.file.building import Lineup, NotLinedUp, ServerDefaults, line_up
from parley_server.agents.file.definitions import AgentsFile
from parley_server.agents.file.reading import ReadFile, read_agents_file
from parley_server.agents.file.variables import filled
from parley_server.core.model import AgentLimits

SECRET = "sk-secret"
ENVIRONMENT = {"TOKEN": SECRET, "A1": "one", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$TOKEN", SECRET),
        ("${TOKEN}", SECRET),
        ("Bearer $TOKEN", f"Bearer {SECRET}"),
        ("$A1$A1-${A1}x", "oneone-onex"),
        ("5$$", "5$"),
        ("$$TOKEN", "$TOKEN"),
        ("$$$TOKEN", f"${SECRET}"),
        ("plain", "plain"),
    ],
)
def test_variables_are_filled_in(text: str, expected: str) -> None:
    assert (expected, ()) == (filled(text, ENVIRONMENT).value, filled(text, ENVIRONMENT).complaints)


@pytest.mark.parametrize("text", ["$", "a $ b", "$1", "${", "${}", "${a-b}", "$NONE", "$EMPTY"])
def test_variables_that_are_none_are_complained_of(text: str) -> None:
    assert 1 == len(filled(text, ENVIRONMENT).complaints)


def read(tmp_path: Path, text: str) -> ReadFile:
    path = tmp_path / "agents.toml"
    path.write_text(text)
    return read_agents_file(path, ENVIRONMENT)


def definitions(tmp_path: Path, text: str) -> AgentsFile:
    return read(tmp_path, text).definitions


def test_secrets_are_values_in_no_repr(tmp_path: Path) -> None:
    found = definitions(
        tmp_path,
        '[agents.a]\nmodel = "a2a+grpc://x:1"\ntoken = "$TOKEN"\n'
        '[mcp.m]\ncommand = ["m"]\nenv = { T = "$TOKEN", PLAIN = "5$$" }\n'
        '[mcp.n]\nurl = "https://x/mcp"\nheaders.Authorization = "Bearer $TOKEN"\n',
    )

    assert SECRET == found.agents["a"].token.get_secret_value()
    assert SECRET == found.mcp["m"].env["T"].get_secret_value()
    assert "5$" == found.mcp["m"].env["PLAIN"].get_secret_value()
    assert f"Bearer {SECRET}" == found.mcp["n"].headers["Authorization"].get_secret_value()
    assert SECRET not in repr(found) + str(found.model_dump()) + found.model_dump_json()


def test_paths_are_relative_to_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "tools").mkdir(parents=True)
    (tmp_path / "conf" / "ca.pem").write_text("any")
    (tmp_path / "conf" / "told.md").write_text("\nBe kind.\n")
    monkeypatch.chdir(tmp_path)
    Path("conf/agents.toml").write_text(
        '[agents.a]\nmodel = "a2a+grpcs://x:1"\nca_file = "ca.pem"\n'
        'instructions_file = "told.md"\n[mcp.m]\ncommand = ["m"]\ncwd = "tools"\n'
    )

    found = read_agents_file(Path("conf/agents.toml"), {}).definitions

    assert tmp_path / "conf" / "ca.pem" == found.agents["a"].ca_file
    assert tmp_path / "conf" / "tools" == found.mcp["m"].cwd
    assert "Be kind." == found.agents["a"].instructions


@pytest.mark.parametrize("before", ["", "\ufeff"], ids=["plain", "byte-order-mark"])
def test_byte_order_mark_of_instructions_is_told_to_no_agent(tmp_path: Path, before: str) -> None:
    (tmp_path / "told.md").write_text(f"{before}Be kind.\r\n", encoding="utf-8")

    found = definitions(tmp_path, '[agents.a]\nmodel = "echo"\ninstructions_file = "told.md"\n')

    assert "Be kind." == found.agents["a"].instructions


def test_variable_of_a_program_may_have_lines(tmp_path: Path) -> None:
    """Keys in PEM have: fails if it is held to what a header takes."""
    (tmp_path / "agents.toml").write_text(
        '[agents.a]\nmodel = "echo"\n[mcp.m]\ncommand = ["m"]\nenv.KEY = "$PEM"\n'
    )

    found = read_agents_file(tmp_path / "agents.toml", {"PEM": "-----BEGIN\nAbc=\n"}).definitions

    assert "-----BEGIN\nAbc=\n" == found.mcp["m"].env["KEY"].get_secret_value()


DEFAULTS = ServerDefaults("You are a server's.", 100, None)


def lined_up(tmp_path: Path, text: str, before: Lineup | None = None) -> Lineup:
    return line_up(read(tmp_path, text), DEFAULTS, Surroundings(), before)


def test_agents_have_the_windows_and_limits_of_their_tables(tmp_path: Path) -> None:
    found = lined_up(
        tmp_path,
        'default = "b"\n[agents.a]\nmodel = "echo"\ninstructions = "Sing."\ncontext_messages = 7\n'
        "context_tokens = 300\nlimits = { seconds = 2, tool_calls = 0 }\n"
        '[agents.b]\nmodel = "echo"\nrehearsal = false\ndescription = "Bird."\n',
    )

    a, b = found.named
    assert "b" == found.default
    assert (7, 300, "Sing.") == (
        a.window.context_messages,
        a.window.context_tokens,
        a.window.instructions,
    )
    assert (100, "You are a server's.") == (b.window.context_messages, b.window.instructions)
    assert AgentLimits(seconds=2, tool_calls=0) == a.limits
    assert (True, False, "Bird.") == (a.can_rehearse, b.can_rehearse, b.description)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[agents.a]\nmodel = "openai:x"\napi_key = "$TOKEN"\n'
            "[agents.a.tools.pay]\nonce = true\n",
            "4: agents.a.tools.pay: there is a rule for the tool 'pay', which the agent does not",
        ),
        (
            '[agents.a]\nmodel = "openai:x"\napi_key = "$TOKEN"\n'
            '[agents.a.tools."a b"]\nrun_by = "caller"\n',
            "4: agents.a.tools.\"a b\": the rule for the tool 'a b': a tool's name has letters",
        ),
        (
            '[agents.a]\nmodel = "openai:x"\napi_key = "$TOKEN"\nbase_url = "http://ü-☃.com/v1"\n',
            "4: agents.a.base_url: OPENAI_BASE_URL must be an http or https URL",
        ),
        (
            '[agents.a]\nmodel = "a2a+grpc://far:9"\n\ntoken = "$TOKEN"\n',
            "4: agents.a.token: token would be sent unencrypted",
        ),
        (
            '[agents.a]\nmodel = "a2a+grpcs://far:9"\n\nca_file = "agents.toml"\n',
            "4: agents.a.ca_file: ca_file: ",
        ),
        (
            '[agents.a]\nmodel = "a2a+grpc://[::1:9"\n',
            "2: agents.a.model: 'a2a+grpc://…' must be a2a+grpc://HOST:PORT",
        ),
    ],
    ids=["no-such-tool", "tools-name", "url", "token", "certificates", "bracket"],
)
def test_what_only_making_an_agent_finds_is_told_with_its_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(NotLinedUp) as caught:
        lined_up(tmp_path, text)

    assert str(caught.value).startswith(f"{tmp_path / 'agents.toml'}:{expected}")


def test_agents_that_are_made_of_the_same_are_one(tmp_path: Path) -> None:
    text = '[agents.a]\nmodel = "echo:1"\n[agents.b]\nmodel = "echo:1"\nlimits.seconds = 1\n'
    found = lined_up(tmp_path, f'default = "a"\n{text}[agents.c]\nmodel = "echo:2"\n')

    a, b, c = found.named
    assert a.agent is b.agent is not c.agent
    assert a.uses is b.uses is not c.uses
    after = lined_up(tmp_path, '[agents.z]\nmodel = "echo:1"\ninstructions = "Sing."\n', found)
    assert a.agent is after.named[0].agent
    assert [c.agent] == [made.agent for made in found.others_than(after)]


def test_a_changed_secret_makes_another_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[agents.a]\nmodel = "openai-chat:x"\napi_key = "$TOKEN"\n'
    first = lined_up(tmp_path, text)
    same = lined_up(tmp_path, text, first)
    monkeypatch.setitem(ENVIRONMENT, "TOKEN", "sk-other")
    other = lined_up(tmp_path, text, first)

    assert first.named[0].agent is same.named[0].agent is not other.named[0].agent
    assert SECRET not in repr(first)


def test_instructions_that_leave_no_room_for_messages_are_refused(tmp_path: Path) -> None:
    """Fails when such an agent is made: of each message it is shown the ends of a few words."""
    text = '[agents.a]\nmodel = "echo"\ncontext_tokens = 256\ninstructions = "{}"\n'

    with pytest.raises(NotLinedUp) as refused:
        lined_up(tmp_path, text.format("x" * 900))

    assert "agents.toml:4: agents.a.instructions: they fill the window of 256 tokens" in str(
        refused.value
    )
    assert lined_up(tmp_path, text.format("x" * 700)).named


@pytest.mark.slow
def test_provider_of_its_own_takes_key_and_address(tmp_path: Path) -> None:
    found = lined_up(
        tmp_path,
        '[agents.a]\nmodel = "anthropic:any"\napi_key = "$TOKEN"\nbase_url = "http://x/y"\n',
    )

    agent: Any = found.named[0].agent
    client = agent._model.provider.client  # noqa: SLF001 - where what is sent
    assert (SECRET, "http://x/y/") == (client.api_key, str(client.base_url))


@pytest.mark.parametrize("model", ["anthropic:any", "ollama:any", "openai-chat:any"])
def test_key_of_the_worker_goes_to_no_server_of_the_agents_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Fails when a provider's library looks into the environment for the key that it lacks."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OLLAMA_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    found = lined_up(tmp_path, f'[agents.a]\nmodel = "{model}"\nbase_url = "http://x/y"\n')

    agent: Any = found.named[0].agent
    client = agent._model.provider.client  # noqa: SLF001 - where what is sent
    assert SECRET not in (client.api_key, getattr(client, "auth_token", None))
