"""The events of a streamed attempt: gathered, stored in order, and what a lost lease stops."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_server.core.attempts import event_log
from parley_server.core.attempts.event_log import GATHER_BYTES, EventLog
from parley_server.core.errors import StoreUnavailable
from parley_server.core.model import StoredEvent, Text, ToolCall
from support.agent_runs import a_call
from support.values import settled

NEVER_S = 3600.0


class Database:
    """What an event log appends to: it answers at once, or once a test opens it."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.opened.set()
        self.outages = 0
        """How many of the next appends it refuses."""
        self.outage: Exception = StoreUnavailable()
        self.is_ours = True
        self.tries: list[list[StoredEvent]] = []
        self.shown: list[int] = []
        """How many events were stored each time that somebody was told of it."""
        self.lost = 0
        self.log = EventLog(self._append, self._note_stored, self._note_loss)

    async def until_stored(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.log.stored) < count:
                await asyncio.sleep(0)

    @property
    def chunks(self) -> list[list[Text | ToolCall]]:
        return [[event.event for event in events] for events in self.tries]

    def say(self, *pieces: str | ToolCall) -> None:
        for piece in pieces:
            self.log.add(Text(piece) if isinstance(piece, str) else piece)

    async def _append(self, events: list[StoredEvent]) -> bool:
        self.tries.append(list(events))
        await self.opened.wait()
        if self.outages:
            self.outages -= 1
            raise self.outage
        return self.is_ours

    def _note_stored(self) -> None:
        self.shown.append(len(self.log.stored))

    def _note_loss(self) -> None:
        self.lost += 1


@pytest.fixture
async def database() -> Database:
    return Database()


@pytest.fixture
def gathers_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the first piece stored, and the next ones only for a reason other than time."""
    monkeypatch.setattr(event_log, "GATHER_S", NEVER_S)


@pytest.fixture
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "RETRY_PAUSE_S", 0)


@pytest.mark.usefixtures("gathers_for_ever")
async def test_first_piece_is_stored_at_once_and_the_next_ones_are_gathered(
    database: Database,
) -> None:
    database.say("a")
    await settled()
    database.say("b", "c")
    await settled()

    assert [[Text("a")]] == database.chunks
    assert ([StoredEvent(0, Text("a"))], [1]) == (database.log.stored, database.shown)
    await database.log.close()


async def test_gathered_text_is_stored_once_its_time_is_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when nothing but the next piece moves the log: the last one would stay unseen."""
    monkeypatch.setattr(event_log, "GATHER_S", 0.01)
    database.say("a", "b")
    await settled()
    database.say("c")
    async with asyncio.timeout(5):
        while len(database.log.stored) < 2:
            await asyncio.sleep(0)

    assert [[Text("ab")], [Text("c")]] == database.chunks


@pytest.mark.usefixtures("gathers_for_ever")
@pytest.mark.parametrize(("size", "is_stored"), [(GATHER_BYTES - 1, False), (GATHER_BYTES, True)])
async def test_much_text_waits_for_no_time(database: Database, size: int, is_stored: bool) -> None:
    """Fails when a chunk's size is counted in characters: an é has two bytes."""
    database.say("a")
    await settled()
    database.say("é" * (size // 2), "a" * (size % 2))
    await settled()

    assert is_stored is (2 == len(database.log.stored))
    await database.log.close()


@pytest.mark.usefixtures("gathers_for_ever")
async def test_tool_call_waits_for_no_time_and_keeps_its_place(database: Database) -> None:
    database.say("a")
    await settled()
    database.say("b", a_call(), "c")
    await settled()

    assert [[Text("a")], [Text("b"), a_call(), Text("c")]] == database.chunks
    await database.log.close()


@pytest.mark.usefixtures("gathers_for_ever")
async def test_log_gathers_while_it_stores(database: Database) -> None:
    """Fails when a chunk is sent while another is on its way: their order would be chance."""
    database.opened.clear()
    database.say("a")
    await settled()
    database.say("b", "c", a_call(), "d", "e")
    await settled()
    assert ([[Text("a")]], []) == (database.chunks, database.log.stored)
    database.opened.set()
    await settled()

    events = [Text("a"), Text("bc"), a_call(), Text("de")]
    assert [StoredEvent(n, event) for n, event in enumerate(events)] == database.log.stored
    assert [1, 4] == database.shown


async def test_piece_without_text_is_no_event(database: Database) -> None:
    database.say("")
    await settled()

    assert [] == database.tries


@pytest.mark.usefixtures("retries_at_once")
async def test_events_are_stored_again_until_the_database_answers(database: Database) -> None:
    """Fails when a chunk is dropped, or numbered otherwise: it may have been stored before."""
    database.outages = 2
    database.say("a")
    await settled()

    assert [[StoredEvent(0, Text("a"))]] * 3 == database.tries
    assert ([StoredEvent(0, Text("a"))], [1]) == (database.log.stored, database.shown)


@pytest.mark.usefixtures("retries_at_once")
async def test_stream_goes_on_behind_a_defect(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails when it ends the storing: what is said then is shown at the turn's end."""
    database.outages, database.outage = 3, KeyError("what was said")
    database.say("a")
    await database.until_stored(1)
    database.say(a_call())
    await database.until_stored(2)

    assert [Text("a"), a_call()] == [stored.event for stored in database.log.stored]
    assert ["events not stored"] == [record.getMessage() for record in caplog.records]


async def test_lost_lease_stops_the_attempt_and_shows_nothing_more(database: Database) -> None:
    """Fails when an event that was not stored is shown: no other worker would know of it."""
    database.is_ours = False
    database.say("a")
    await settled()
    database.say(a_call())
    await settled()

    assert ([[Text("a")]], [], []) == (database.chunks, database.log.stored, database.shown)
    assert 1 == database.lost


@pytest.mark.usefixtures("gathers_for_ever")
async def test_close_waits_for_what_is_on_its_way_and_stores_nothing_more(
    database: Database,
) -> None:
    """Fails when the answer may overtake an event: it would be stored behind the turn's end."""
    database.opened.clear()
    database.say("a")
    await settled()
    database.say(a_call())
    closing = asyncio.create_task(database.log.close())
    await settled()
    assert not closing.done()
    database.opened.set()
    await closing
    database.say(a_call())
    await settled()

    assert [[Text("a")]] == database.chunks
    assert [StoredEvent(0, Text("a"))] == database.log.stored


@pytest.mark.usefixtures("retries_at_once")
async def test_close_ends_while_the_database_is_away(database: Database) -> None:
    """Fails when a log is stored until it is: the attempt would end with the outage."""
    database.outages = 10**9
    database.say("a")
    await settled()
    async with asyncio.timeout(5):
        await database.log.close()

    assert [] == database.log.stored


async def test_close_forgets_what_was_to_be_stored_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the answer. Fails when its timer still runs."""
    monkeypatch.setattr(event_log, "GATHER_S", 0.001)
    database.say("a")
    await settled()
    database.say("b")
    await database.log.close()
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.005, passed.set)
    await passed.wait()

    assert [[Text("a")]] == database.chunks


said = st.lists(
    st.one_of(st.text("aé", max_size=3), st.just(a_call()), st.sampled_from(["LET", "OUTAGE"])),
    max_size=12,
)


@settings(deadline=None)
@given(said)
def test_all_that_is_said_is_stored_once_in_order(said: list[str | ToolCall]) -> None:
    """Whatever is said when, and whether the database is away meanwhile."""

    async def play() -> None:
        database = Database()
        for each in said:
            if each == "LET":
                await settled()
            elif each == "OUTAGE":
                database.outages = 1
            else:
                database.say(each)
        spoken = [each for each in said if each not in ("LET", "OUTAGE")]
        async with asyncio.timeout(5):
            while _pieces(spoken) != _pieces(_contents(database)):
                await asyncio.sleep(0)
        stored = database.log.stored
        assert list(range(len(stored))) == [event.index for event in stored]
        assert not any(each == "" for each in _contents(database))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(event_log, "GATHER_S", 0)
        patched.setattr(event_log, "RETRY_PAUSE_S", 0)
        asyncio.run(play())


def _contents(database: Database) -> list[str | ToolCall]:
    events = (each.event for each in database.log.stored)
    return [event.text if isinstance(event, Text) else event for event in events]


def _pieces(said: list[str | ToolCall]) -> list[str | ToolCall]:
    """Return what was said, character by character: however it is cut, it is the same."""
    return [part for each in said for part in (each if isinstance(each, str) else [each])]
