"""Certificates of a remote agent that are renewed while a worker asks it."""

import asyncio
import datetime
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from parley_server.agents.a2a.access import Access
from parley_server.agents.a2a.agent import A2AAgent
from support.a2a_scripted import (
    Ids,
    Later,
    Said,
    ScriptedRemote,
    a_message,
    a_piece,
    a_task,
    an_agent,
    completed,
)
from support.agent_runs import Told, told_by
from support.certificates import BothSides, Certificates, a_clock_at
from support.cut_connections import Wire
from support.services import until_true

RENEWED = "certificates renewed"
REJECTED = "new certificates rejected, the old ones stay in use"


def hello(ids: Ids) -> Iterable[Said]:
    return [a_message("Hello", context_id=ids.context)]


@asynccontextmanager
async def connected(
    remote: ScriptedRemote, sides: BothSides
) -> AsyncIterator[tuple[A2AAgent, Wire]]:
    """Serve, and yield who asks, and the wire between the two."""
    ours = sides.ours
    access = Access(ca_file=ours.client_ca, cert_file=ours.cert, key_file=ours.key)
    async with (
        remote.running(sides.server_credentials()),
        Wire(remote.port).running() as wire,
        an_agent(f"a2a+grpcs://{wire.address}", access) as agent,
    ):
        yield agent, wire


@pytest.fixture
def sides(tmp_path: Path) -> BothSides:
    return BothSides.written(tmp_path)


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage() == event]


def in_place(sides: BothSides) -> None:
    sides.write(sides.ours)


def behind_a_link(sides: BothSides) -> None:
    """Renew as Kubernetes does: a folder beside the one that is used, and a link to it."""
    used = sides.ours.folder
    beside, link = (Certificates(used.with_name(name)) for name in ("newer", "link"))
    beside.folder.mkdir()
    sides.write(beside)
    link.folder.symlink_to(beside.folder)
    used.rename(used.with_name("older"))
    os.replace(link.folder, used)


@pytest.mark.parametrize("renew", [in_place, behind_a_link])
async def test_renewed_certificates_are_used_from_the_next_call_on_and_a_stream_goes_on(
    sides: BothSides, renew: Callable[[BothSides], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Fails with files that are read once, and if the older channel is closed at once, or kept."""
    rest = asyncio.Event()
    remote = ScriptedRemote(
        lambda ids: [a_task(ids), a_piece(ids, "Half"), Later(rest, completed(ids))], hello
    )
    caplog.set_level(logging.INFO, "parley.tls")
    told = Told()
    async with connected(remote, sides) as (agent, wire):
        running = asyncio.create_task(told_by(agent, into=told))
        await until_true(lambda: told.text == "Half")
        first = sides.ours.cert.read_text()
        sides.ca = trustme.CA()
        sides.write(sides.theirs)
        renew(sides)

        assert "Hello" == (await told_by(agent)).text
        assert "Hello" == (await told_by(agent)).text
        assert 2 == wire.open
        rest.set()
        await running
        await until_true(lambda: wire.open == 1)
        assert 2 == wire.made

    assert told.finish is not None
    second = sides.ours.cert.read_text()
    assert [first, second, second] == [heard.shown for heard in remote.heard]
    (renewed,) = lines(caplog, RENEWED)
    assert wire.address == renewed.__dict__["server"]
    assert [] == lines(caplog, REJECTED)


def half_an_authority(sides: BothSides) -> None:
    sides.write(sides.ours)
    sides.ours.client_ca.write_bytes(sides.ours.client_ca.read_bytes()[:100])


def half_a_certificate(sides: BothSides) -> None:
    sides.write(sides.ours)
    sides.ours.cert.write_bytes(sides.ours.cert.read_bytes()[:100])


def new_key_alone(sides: BothSides) -> None:
    sides.ours.key.write_bytes(sides.ca.issue_cert("127.0.0.1").private_key_pem.bytes())


def no_key(sides: BothSides) -> None:
    sides.ours.key.unlink()


def expired(sides: BothSides) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    sides.ours.write(sides.ca, name="127.0.0.1", expires=yesterday)


Damage = Callable[[BothSides], None]
DAMAGES: dict[Damage, str] = {
    half_an_authority: "ca_file: {0.client_ca} does not hold certificates, as PEM",
    half_a_certificate: "cert_file: {0.cert} does not hold certificates, as PEM",
    new_key_alone: "key_file: {0.key} does not hold the key of the certificate in cert_file",
    no_key: "key_file: cannot read {0.key}: No such file or directory",
    expired: "cert_file: {0.cert} expired at ",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_wrong_files_are_told_once_and_the_last_good_ones_stay_until_they_are_right(
    sides: BothSides, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails when what the files hold is used without a look at it."""
    remote = ScriptedRemote(hello)
    async with connected(remote, sides) as (agent, _):
        first = sides.ours.cert.read_text()
        assert "Hello" == (await told_by(agent)).text
        damage(sides)
        for _ in range(3):
            assert "Hello" == (await told_by(agent)).text
        sides.write(sides.ours)
        assert "Hello" == (await told_by(agent)).text

    second = sides.ours.cert.read_text()
    assert [*[first] * 4, second] == [heard.shown for heard in remote.heard]
    (rejected,) = lines(caplog, REJECTED)
    assert "WARNING" == rejected.levelname
    assert rejected.__dict__["why"].startswith(DAMAGES[damage].format(sides.ours))


async def test_files_that_are_written_again_as_they_were_keep_the_connection(
    sides: BothSides,
) -> None:
    async with connected(ScriptedRemote(hello), sides) as (agent, wire):
        await told_by(agent)
        for file in (sides.ours.client_ca, sides.ours.cert, sides.ours.key):
            file.write_bytes(file.read_bytes())
        await told_by(agent)

        assert 1 == wire.made


async def test_a_certificate_that_comes_too_early_is_shown_once_it_is_valid(
    sides: BothSides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where clocks differ. Fails when files that were rejected are not looked at again."""
    monkeypatch.setattr("parley_server.certificates.LOOK_AGAIN_S", 0)
    now, hour = datetime.datetime.now(datetime.UTC), datetime.timedelta(hours=1)
    remote = ScriptedRemote(hello)
    async with connected(remote, sides) as (agent, _):
        first = sides.ours.cert.read_text()
        sides.ours.write(sides.ca, name="127.0.0.1", begins=now - hour)
        for clock in (a_clock_at(now - 2 * hour), a_clock_at(now)):
            monkeypatch.setattr("parley_server.certificates.datetime", clock)
            await told_by(agent)

    assert [first, sides.ours.cert.read_text()] == [heard.shown for heard in remote.heard]
