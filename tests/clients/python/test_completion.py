"""What a shell completes."""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from support.configs import Configure
from support.scripted_server import never, scripted
from support.services import Service, a_token
from support.terminals import run


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_completion_script_is_produced(shell: str) -> None:
    done = await run("--show-completion", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert 2 == done.returncode  # it needs to be told which shell
    done = await run("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert 0 == done.returncode
    assert b"_PARLEY_COMPLETE" in done.stdout


async def completed_by(line: str, **variables: str) -> list[str]:
    words = line.split(" ")
    done = await run(
        _PARLEY_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
        **variables,
    )
    assert b"" == done.stderr
    return done.stdout.decode().split()


@pytest.mark.slow
async def test_conversations_and_profiles_are_completed(
    service: Service, configure: Configure
) -> None:
    conversation_id = (await service.chat()).conversation_id
    config = f"""
        [profiles.work]
        address = "127.0.0.1:{service.port}"
        token = "{a_token()}"
    """
    variables = configure(config)
    assert ["work"] == await completed_by("parley chat --profile w", **variables)
    line = f"parley chat --profile work -c {conversation_id[:3]}"
    assert [conversation_id] == await completed_by(line, **variables)
    line = f"parley history --profile work {conversation_id[:3]}"
    assert [conversation_id] == await completed_by(line, **variables)


@pytest.mark.slow
async def test_completion_waits_a_second_and_says_nothing(configure: Configure) -> None:
    async with scripted(never) as server:
        begun = time.monotonic()
        assert [] == await completed_by("parley chat -c 0", PARLEY_ADDRESS=server.address)
        assert time.monotonic() - begun < 20
    assert [] == await completed_by("parley chat -c 0", **configure("nonsense"))


async def described_by(shell: str, service: Service) -> str:
    done = await run(
        _PARLEY_COMPLETE=f"complete_{shell}",
        _TYPER_COMPLETE_ARGS="parley show ",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        PARLEY_ADDRESS=f"127.0.0.1:{service.port}",
        PARLEY_TOKEN=a_token(),
    )
    assert (0, b"") == (done.returncode, done.stderr)
    return done.stdout.decode()


async def test_titles_complete_as_they_are_written(service: Service) -> None:
    """Typer takes them for markup, fails with a traceback, and breaks long ones in two."""
    for title in ("[/b] [red]a[/red]", "日" * 50):
        made = (await service.create(title=title)).conversation
        shown = await described_by("fish", service)
        assert f"{made.conversation_id}\tjust now: {title}\n" in shown


@pytest.mark.parametrize(
    "title", [r"\$(touch a)", r"\`touch a\`", "$(touch a)", r"\" $(touch a) \""], ids=str
)
async def test_titles_are_no_commands_for_a_shell(
    title: str, service: Service, tmp_path: Path
) -> None:
    """Zsh evaluates what it gets: an own backslash undoes the one that Typer adds to a dollar."""
    await service.create(title=title)
    shown = (await described_by("zsh", service)).strip()
    assert "touch a" in shown
    literal = shown.removeprefix("_arguments '*: :((").removesuffix("))'")
    line = f"ws=( {literal} )"  # as _arguments does
    await asyncio.to_thread(subprocess.run, ["bash", "-c", line], cwd=tmp_path, check=False)
    assert [] == os.listdir(tmp_path)
