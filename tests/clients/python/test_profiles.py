"""Profiles of the config file, and whom to act for."""

import asyncio
import json
from pathlib import Path

import pytest

from parley.v1 import conversation_service_pb2 as pb
from support.configs import NOWHERE, Configure
from support.deadlines import ROUNDING_S
from support.scripted_server import an_answer, scripted
from support.scripted_streams import streaming
from support.services import Service, a_token
from support.terminals import Terminal, run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("used", "options", "variables"),
    [
        ("profile", (), {}),
        ("variable", (), {"PARLEY_TOKEN": "variable"}),
        ("file", (), {"PARLEY_TOKEN_FILE": "FILE"}),
        ("option", ("--token", "option"), {"PARLEY_TOKEN_COMMAND": "echo variable"}),
        ("command", ("--token-command", "echo command"), {"PARLEY_TOKEN": "variable"}),
        ("other", ("--profile", "other"), {}),
        ("other", (), {"PARLEY_PROFILE": "other"}),
        ("profile", ("--profile", "work"), {"PARLEY_PROFILE": "other"}),
    ],
)
async def test_options_go_before_variables_before_the_profile(
    used: str,
    options: tuple[str, ...],
    variables: dict[str, str],
    configure: Configure,
    tmp_path: Path,
) -> None:
    """Fails when the three ways to give a token are not weighed by where they come from."""
    (tmp_path / "token").write_text("file")
    variables = {k: v.replace("FILE", str(tmp_path / "token")) for k, v in variables.items()}
    async with scripted(pb.ListConversationsResponse()) as server:
        config = f"""
            default_profile = "work"
            [profiles.work]
            address = "{server.address}"
            token = "profile"
            [profiles.other]
            address = "{server.address}"
            token_command = "echo other"
        """
        done = await run("list", *options, **{**configure(config), **variables})
        assert (0, b"") == (done.returncode, done.stderr)
        assert [f"Bearer {used}"] == [a.metadata["authorization"] for a in server.asked]

        wrong = {**configure(config), "PARLEY_ADDRESS": NOWHERE}
        done = await run("list", "--address", server.address, **wrong)
        assert 0 == done.returncode
        elsewhere = {**wrong, "PARLEY_TOKEN": "variable"}
        assert 6 == (await run("list", "--timeout", "1", **elsewhere)).returncode


@pytest.mark.slow
@pytest.mark.parametrize("given", ["option", "variable"])
@pytest.mark.parametrize("kind", ["token", "token_file", "token_command"])
async def test_a_profiles_token_goes_to_no_other_server(
    kind: str, given: str, configure: Configure, tmp_path: Path
) -> None:
    """Fails without the check: another server gets a token that it can use at the profile's."""
    (tmp_path / "token").write_text("secret")
    value = {"token": "secret", "token_file": str(tmp_path / "token")}.get(kind, "echo secret")
    async with scripted(pb.ListConversationsResponse()) as server:
        for address in (f'address = "{NOWHERE}"', ""):
            config = configure(f"""
                default_profile = "work"
                [profiles.work]
                {address}
                {kind} = "{value}"
            """)
            options = ("--address", server.address) if given == "option" else ()
            variables = {} if options else {"PARLEY_ADDRESS": server.address}
            done = await run("list", *options, **{**config, **variables})
            assert 2 == done.returncode
            words = done.stderr.decode().replace("│", "").split()
            assert "is not sent to" in " ".join(words)
            assert b"secret" not in done.stderr
        assert [] == server.asked
        done = await run("list", *options, "--token", "mine", **{**config, **variables})
        assert (0, ["Bearer mine"]) == (
            done.returncode,
            [a.metadata["authorization"] for a in server.asked],
        )


async def test_a_profile_says_what_chats_options_are(configure: Configure) -> None:
    async with streaming(an_answer()) as server:
        config = f"""
            [profiles.work]
            address = "{server.address}"
            agent = "helper"
            for_user = "Jürgen"
            timeout = 7
            plain = true
        """

        def talk() -> str:
            with Terminal("chat", "hello", "--profile", "work", **configure(config)) as terminal:
                assert 0 == terminal.ended()
                return terminal.screen

        screen = await asyncio.to_thread(talk)
    (asked,) = server.asked
    assert ("helper", "J%C3%BCrgen") == (asked.request.chat.agent, asked.metadata["parley-user"])
    assert 5 < asked.time_left_s <= 7 + ROUNDING_S
    assert "Continue with: parley chat --profile work --conversation " in screen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "config"),
    [
        ("cannot be read: ", "default_profile = "),
        ("profile is not a setting. Did you mean profiles?", "[profile.work]"),
        ("default_profile is 'work', but no profile has this name.", "default_profile = 'work'"),
        (
            "profiles.work.adress is not a setting. Did you mean address?",
            "[profiles.work]\nadress = 'a'",
        ),
        ("profiles.work.timeout must be a number of seconds", "[profiles.work]\ntimeout = '9'"),
        ("profiles.work.timeout must be a number of seconds", "[profiles.work]\ntimeout = true"),
        ("profiles.work.timeout must be a number of seconds", "[profiles.work]\ntimeout = inf"),
        ("profiles.work.address must be text in quotes", "[profiles.work]\naddress = 7"),
        ("profiles.work.plaintext must be true or false", "[profiles.work]\nplaintext = 1"),
        ("profiles.work must be a table", "[profiles]\nwork = 1"),
        ("has no profile 'missing'. The profiles are: work.", "[profiles.work]"),
        ("profiles.none: 'none' means no profile", "[profiles.none]"),
    ],
)
async def test_a_config_that_makes_no_sense_is_said_in_a_sentence(
    said: str, config: str, configure: Configure
) -> None:
    variables = {**configure(config), "PARLEY_ADDRESS": NOWHERE}
    done = await run("list", "--profile", "missing", **variables)
    message = done.stderr.decode()
    assert 2 == done.returncode
    assert message.startswith(f"parley: {variables['PARLEY_CONFIG_FILE']}")
    assert said in message
    assert 1 == len(message.splitlines())
    assert 6 == (await run("list", "--profile", "none", "--timeout", "1", **variables)).returncode


async def test_a_config_that_is_not_there_is_none_unless_it_was_named(tmp_path: Path) -> None:
    async with scripted(pb.ListConversationsResponse()) as server:
        variables = {"PARLEY_ADDRESS": server.address, "PARLEY_PROFILE": ""}
        done = await run("list", XDG_CONFIG_HOME=str(tmp_path), **variables)
        assert (0, b"") == (done.returncode, done.stderr)
        done = await run("list", PARLEY_CONFIG_FILE=str(tmp_path / "no"), **variables)
    assert 2 == done.returncode
    assert b"which does not exist" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exit_code", "options", "profile"),
    [
        (2, ("--plaintext", "--ca-file", "FILE"), ""),
        (2, (), "plaintext = true\nca_file = 'config.toml'"),
        (2, ("--cert-file", "FILE"), ""),
        (0, ("--plaintext",), "ca_file = 'config.toml'"),
        (6, ("--ca-file", "FILE"), "plaintext = true"),
    ],
)
async def test_plaintext_and_files_exclude_each_other_where_both_are_given(
    exit_code: int, options: tuple[str, ...], profile: str, configure: Configure
) -> None:
    """6: it is TLS, which the server does not speak."""
    async with scripted(pb.ListConversationsResponse()) as server:
        variables = configure(f"default_profile = 'p'\n[profiles.p]\n{profile}\n")
        options = tuple(o.replace("FILE", variables["PARLEY_CONFIG_FILE"]) for o in options)
        line = ("list", "--timeout", "2", "--address", server.address, *options)
        done = await run(*line, **variables)
    assert exit_code == done.returncode, done.stderr


@pytest.mark.slow
async def test_profiles_are_listed_without_their_tokens(configure: Configure) -> None:
    config = """
        default_profile = "work"
        [profiles.work]
        address = "parley.internal:443"
        token = "secret"
        [profiles.home]
    """
    done = await run("profiles", **configure(config))
    assert "work\t*\tparley.internal:443\ttoken\nhome\t\t\t\n" == done.stdout.decode()
    done = await run("profiles", "--json", **configure(config))
    listed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [("work", True), ("home", False)] == [(p["profile"], p["is_default"]) for p in listed]

    def on_a_terminal() -> str:
        with Terminal("profiles", **configure(config)) as terminal:
            assert 0 == terminal.ended()
            return terminal.screen

    screen = await asyncio.to_thread(on_a_terminal)
    assert "parley.internal:443" in screen
    assert "secret" not in screen + done.stdout.decode()


@pytest.mark.slow
async def test_a_user_is_acted_for(service: Service) -> None:
    token = a_token("backend", scope="parley.read parley.write parley.act")
    variables = {"PARLEY_ADDRESS": f"127.0.0.1:{service.port}", "PARLEY_TOKEN": token}
    for done in (
        await run("ask", "hello", "--for-user", "Jürgen", **variables),
        await run("ask", "hello", PARLEY_FOR_USER="Jürgen", **variables),
    ):
        assert (0, b"HELLO\n") == (done.returncode, done.stdout)
    assert 2 == len((await service.conversations(user="Jürgen")).conversations)
    assert 0 == len((await service.conversations(user="backend")).conversations)


async def test_a_file_of_nobodys_home_is_said_so(configure: Configure) -> None:
    config = """
        [profiles.work]
        token_file = "~nobody-here/token"
    """
    done = await run("profiles", **configure(config))
    assert 2 == done.returncode
    assert b"profiles.work: there is no such home folder as after a ~." in done.stderr
    assert b"Traceback" not in done.stderr


async def test_a_config_file_may_begin_with_a_byte_order_mark(configure: Configure) -> None:
    done = await run("profiles", **configure("\ufeff[profiles.work]"))
    assert (0, b"work\t\t\t\n") == (done.returncode, done.stdout)
