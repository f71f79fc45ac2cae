"""What a shell completes."""

import time

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
