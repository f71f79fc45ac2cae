"""`parley-server agents`: checks a file, lists its agents, asks one of them."""

from pathlib import Path

import pytest

from support.fake_openai import Fail, FakeOpenAI, Say
from support.processes import run

FILE = """default = "one"
[agents.one]
model = "openai-chat:any"
base_url = "{url}"
api_key = "$KEY"
instructions = "You are One."
description = "The first [one]."
[agents.bird]
model = "echo"
limits.reply_bytes = 5
[agents.slow]
model = "echo:60"
limits.seconds = 0.2
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "agents.toml"
    path.write_text(FILE.format(url="http://127.0.0.1:1/v1"))
    return path


@pytest.mark.slow
def test_agents_are_listed_and_secrets_are_not(path: Path) -> None:
    done = run("agents", PARLEY_AGENTS_FILE=str(path), KEY="sk-secret")

    assert (0, "") == (done.returncode, done.stderr)
    assert [
        "name           model            tools  limits   description",
        "one (default)  openai-chat:any  -      -        The first [one].",
        "bird           echo             -      5 bytes",
        "slow           echo:60          -      0.2 s",
    ] == [line.rstrip() for line in done.stdout.splitlines()]


def test_wrong_file_is_told_whole_with_exit_code_1(path: Path) -> None:
    path.write_text('[agents.a]\nmodel = "x"\nlimits.seconds = 0\n')

    done = run("agents", str(path))

    assert (1, "") == (done.returncode, done.stdout)
    assert [2, 3] == [int(line.split(f"{path}:")[1][0]) for line in done.stderr.splitlines()]


@pytest.mark.slow
def test_agents_that_cannot_be_made_are_told(path: Path) -> None:
    path.write_text('[agents.a]\nmodel = "anthropic:any"\n')

    done = run("agents", str(path))

    assert 1 == done.returncode
    expected = f"{path}:2: agents.a.model: 'anthropic:any' needs ANTHROPIC_API_KEY to be set\n"
    assert done.stderr.endswith(expected)


@pytest.mark.slow
def test_one_agent_is_asked_without_a_database(path: Path) -> None:
    with FakeOpenAI([Say("I am One.")]) as fake:
        path.write_text(FILE.format(url=fake.base_url))
        done = run("agents", str(path), "--try", "one", "Hello", KEY="sk-secret")

    assert (0, "I am One.\n") == (done.returncode, done.stdout)
    assert "fake-1, STOP, 11 + 7 tokens\n" == done.stderr
    said = [message["content"] for message in fake.requests[0].json["messages"]]
    assert ["You are One.", "Hello"] == said


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brid", "has no agent brid: did you mean bird?"),
        ("slow", "slow did not answer within 0.2 s"),
    ],
)
def test_agent_that_does_not_answer_is_told(path: Path, name: str, expected: str) -> None:
    done = run("agents", str(path), "--try", name, "Hello", KEY="sk-secret")

    assert 1 == done.returncode
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_failure_of_a_provider_is_a_sentence(path: Path) -> None:
    with FakeOpenAI([Fail(401)]) as fake:
        path.write_text(FILE.format(url=fake.base_url))
        done = run("agents", str(path), "--try", "one", "Hello", KEY="sk-secret")

    assert (1, "\n") == (done.returncode, done.stdout or "\n")
    assert "one did not answer: " in done.stderr
    assert "sk-secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_limits_hold_where_one_agent_is_asked(path: Path) -> None:
    done = run("agents", str(path), "--try", "bird", "Hello there", KEY="sk-secret")

    assert (0, "Hello\n") == (done.returncode, done.stdout)
    assert "LENGTH" in done.stderr


def test_a_file_is_needed() -> None:
    done = run("agents")

    assert 1 == done.returncode
    assert "name a file, parley-server agents agents.toml" in done.stderr
