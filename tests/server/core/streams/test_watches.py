"""WatchConversation: what is there after a sequence, then live, on whatever worker it happens."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import psycopg
import pytest

from parley.v1 import conversation_pb2 as cpb
from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import AgentRefused
from parley_server.core.model import AgentEvent, AgentRun, Finish, FinishReason, Text, ToolCall
from parley_server.storage.signals import NoSignals
from support.agents import ScriptedAgent, Speaker
from support.http2 import INITIAL_WINDOW_SIZE, Connection, message
from support.messages import system
from support.services import Service, StartService, an_id, gathered, metadata, refused
from support.streams import Stream, next_of, rest_of

CALL = ToolCall("c1", "weather", '{"city": "Ulm"}', "12 °C", False, 1)
PAGES = "parley_server.core.streams.pages"
FOLLOWING = "parley_server.core.streams.following"
WATCHES = "parley_server.core.streams.watches"
Update = pb.WatchConversationResponse


async def updates_until(watch: Stream, last_sequence: int) -> list[Update]:
    """Read a watch until it says that it has come this far."""
    updates = []
    while True:
        update = await watch.read()
        assert isinstance(update, Update)
        updates.append(update)
        if update.HasField("message") and update.message.sequence == last_sequence:
            return updates


async def test_watch_brings_what_is_there_and_then_what_comes(service: Service) -> None:
    conversation_id = (await service.chat("one")).conversation_id
    watch = service.watch(conversation_id)
    kinds = [(await watch.read()) for _ in range(4)]

    assert ["message", "message", "turn", "progress"] == [u.WhichOneof("update") for u in kinds]
    assert ["one", "ONE"] == [u.message.content for u in kinds[:2]]
    assert cpb.TURN_STATE_COMPLETED == kinds[2].turn.state
    assert 2 == kinds[3].progress.last_sequence
    await service.chat("two", conversation_id=conversation_id)
    live = await updates_until(watch, 4)
    live.append(await watch.read())
    assert ["two", "TWO"] == [u.message.content for u in live if u.HasField("message")]
    assert cpb.TURN_STATE_COMPLETED == live[-1].turn.state


async def test_watch_shows_an_open_turn_and_its_events(start_service: StartService) -> None:
    speaker = Speaker()
    one, two = await start_service(ScriptedAgent(speaker)), await start_service()
    conversation_id = an_id()
    stream = one.stream(conversation_id=conversation_id, allow_missing=True)
    await next_of(stream, "started")
    speaker.say("before ")
    await next_of(stream, "chunk")
    watch = two.watch(conversation_id, include_events=True)
    seen = [await watch.read() for _ in range(3)]
    speaker.say(CALL)
    while seen[-1].event.WhichOneof("event") != "tool_call":
        seen.append(await watch.read())
    speaker.say("after", None)
    rest = await updates_until(watch, 2)
    ended = await watch.read()

    assert "hello" == seen[0].message.content
    assert cpb.TURN_STATE_RUNNING == seen[1].turn.state
    assert "before " == seen[2].event.chunk.text
    indexes = [u.event.index for u in seen + rest if u.HasField("event")]
    assert list(range(len(indexes))) == indexes
    assert "before after" == rest[-1].message.content
    assert cpb.TURN_STATE_COMPLETED == ended.turn.state


@pytest.mark.parametrize("notify", ["listen", "poll"])
async def test_watch_with_reconnects_sees_every_message_once(
    start_service: StartService, notify: str
) -> None:
    services = [await start_service(notify=notify) for _ in range(2)]
    conversation_id = (await services[0].chat("m0")).conversation_id

    async def talk() -> None:
        for n in range(1, 50):
            await services[n % 2].chat(f"m{n}", conversation_id=conversation_id)

    talking = asyncio.ensure_future(talk())
    seen: list[cpb.Message] = []
    turns: list[cpb.Turn] = []
    reconnects = 0
    while len(seen) < 100:
        watch = services[reconnects % 2].watch(
            conversation_id, after_sequence=seen[-1].sequence if seen else 0
        )
        reconnects += 1
        for _ in range(7 + reconnects):
            update = await watch.read()
            if update.HasField("message"):
                seen.append(update.message)
            if update.HasField("turn"):
                turns.append(update.turn)
            if len(seen) == 100:
                break
        watch.cancel()
    await talking

    assert list(range(1, 101)) == [m.sequence for m in seen]
    assert [t for n in range(50) for t in (f"m{n}", f"M{n}")] == [m.content for m in seen]
    assert reconnects > 3


async def test_watch_from_an_answer_on_tells_how_its_turn_ended(service: Service) -> None:
    conversation_id = (await service.chat("one")).conversation_id
    update = await service.watch(conversation_id, after_sequence=2).read()

    assert cpb.TURN_STATE_COMPLETED == update.turn.state


@pytest.mark.slow
async def test_idle_watch_costs_no_statement(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a watch looks again each time that it says how far it is."""
    monkeypatch.setattr("parley_server.core.streams.watches.PROGRESS_S", 0.02)
    service, other = await start_service(), await start_service()
    conversation_id = (await service.chat("one")).conversation_id
    watch = service.watch(conversation_id)
    await updates_until(watch, 2)
    looks = 0
    turns_since = service.worker.store.turns_since

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal looks
        looks += 1
        return await turns_since(*args, **options)

    for _ in range(100):  # signals of the start have come by then
        await watch.read()
    monkeypatch.setattr(service.worker.store, "turns_since", counted)
    updates = [await watch.read() for _ in range(50)]

    assert 0 == looks
    assert [2] * 50 == [u.progress.last_sequence for u in updates]
    await other.chat("two", conversation_id=conversation_id)
    assert "TWO" == (await updates_until(watch, 4))[-1].message.content


@pytest.mark.slow
async def test_watch_learns_what_a_worker_stored_before_it_was_killed(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a worker that falls silent is only forgotten: the watch then waits to its end."""
    monkeypatch.setattr("parley_server.storage.signals.GREETING_S", 0.3)
    service, doomed = await start_service(), await start_service()
    if isinstance(doomed.worker.signals, NoSignals):
        pytest.skip("through a pooler no signals are sent: watches look by themselves")
    conversation_id = (await service.chat("one")).conversation_id
    watch = service.watch(conversation_id)
    await updates_until(watch, 2)
    signals: Any = service.worker.signals
    while not signals.peers or not signals.is_quiet:
        await asyncio.sleep(0.01)

    async def nothing_is_sent(_: Any) -> None:
        """As of a worker that is killed behind its commit."""

    monkeypatch.setattr(doomed.worker.signals, "_notify", nothing_is_sent)
    await doomed.append(conversation_id, system("two"))
    monkeypatch.setattr("parley_server.storage.signals.PEER_S", 1)

    assert "two" == (await updates_until(watch, 3))[-1].message.content


async def test_watch_of_nothing_is_not_found(service: Service) -> None:
    watch = service.watch(an_id())

    assert ("NOT_FOUND", "CONVERSATION_NOT_FOUND") == await refused(watch.read())


async def test_watch_ends_when_the_worker_drains(start_service: StartService) -> None:
    service = await start_service()
    conversation_id = (await service.chat("one")).conversation_id
    watch = service.watch(conversation_id)
    for _ in range(4):
        await watch.read()
    draining = asyncio.ensure_future(service.worker.server.drain(1))

    assert ("UNAVAILABLE", "WORKER_DRAINED") == await refused(watch.read())
    await draining


async def test_too_many_watches_are_refused(start_service: StartService) -> None:
    service = await start_service(max_watches=1)
    conversation_id = (await service.chat("one")).conversation_id
    first = service.watch(conversation_id)
    await first.read()

    assert ("RESOURCE_EXHAUSTED", "OVERLOADED") == await refused(
        service.watch(conversation_id).read()
    )
    first.cancel()
    while service.worker.admission.watches.in_use:
        await asyncio.sleep(0.01)
    assert "one" == (await service.watch(conversation_id).read()).message.content


# Everything, once, in order


async def answer_as_asked(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
    """Answer, refuse, or speak until the turn is cancelled."""
    message = run.window.messages[-1].content
    if message.startswith("refuse"):
        raise AgentRefused
    yield Text(message.upper())
    if message.startswith("speak"):
        await asyncio.Event().wait()
    yield Finish(FinishReason.STOP, "scripted-1")


async def a_turn_of(service: Service, conversation_id: str, what: str, number: int) -> None:
    name = {"conversation_id": conversation_id, "request_id": f"r{number}"}
    if what != "speak":
        await gathered(service.chat(f"{what} {number}", allow_missing=True, **name))
        return
    stream = service.stream(f"{what} {number}", allow_missing=True, **name)
    await next_of(stream, "started")
    await next_of(stream, "chunk")
    await service.cancel(request_id=f"r{number}")
    await rest_of(stream)


def what_is_stored(
    connection: psycopg.Connection[Any], conversation_id: str, after_sequence: int
) -> list[tuple[str, Any]]:
    """Return messages by sequence and turns by state: each turn behind its last message."""
    return connection.execute(
        "SELECT kind, what FROM ("
        " SELECT sequence AS at, 0 AS n, 'message' AS kind, sequence::text AS what, conversation_id"
        " FROM message WHERE sequence > %(after)s"
        " UNION ALL SELECT coalesce(response_sequence, user_sequence), 1, 'turn',"
        " request_id || ' ' || state, conversation_id FROM turn"
        " WHERE coalesce(response_sequence, user_sequence) >= %(after)s"
        ") AS told WHERE conversation_id = %(id)s ORDER BY at, n",
        {"after": after_sequence, "id": conversation_id},
    ).fetchall()


def told_in_the_end(updates: list[Update]) -> list[tuple[str, Any]]:
    """Return what a watch told, without the states that another one of the same turn follows."""
    left = Counter(u.turn.turn_id for u in updates if u.HasField("turn"))
    told: list[tuple[str, Any]] = []
    for update in updates:
        if update.HasField("message"):
            told.append(("message", str(update.message.sequence)))
        elif update.HasField("turn"):
            left[update.turn.turn_id] -= 1
            if not left[update.turn.turn_id]:
                state = cpb.TurnState.Name(update.turn.state).removeprefix("TURN_STATE_")
                told.append(("turn", f"{update.turn.request_id} {state}"))
    return told


async def collect(watch: Stream, updates: list[Update]) -> None:
    while True:
        updates.append(await watch.read())


def cut_signals(database_url: str) -> None:
    """End the connections on which workers hear of each other."""
    url = database_url.replace("//parley@", "//postgres@")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'parley-signals' AND datname = current_database()"
        )


def make_pages_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{PAGES}.PAGE_TURNS", 3)
    monkeypatch.setattr(f"{PAGES}.PAGE_MESSAGES", 4)
    monkeypatch.setattr(f"{PAGES}.PAGE_BYTES", 50)
    monkeypatch.setattr(f"{WATCHES}.PROGRESS_S", 0.02)
    monkeypatch.setattr(f"{WATCHES}.LOOK_S", 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("signals", ["listen", "poll", "lost again and again"])
@pytest.mark.parametrize("seed", range(2))
async def test_watches_tell_what_is_stored_wherever_they_join(
    start_service: StartService,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    signals: str,
    seed: int,
) -> None:
    """Fails when a full page counts as all there is, or a turn's state is told only if the page
    ends at its last message.
    """
    make_pages_small(monkeypatch)
    chance = random.Random(seed)
    agent = ScriptedAgent(answer_as_asked)
    notify = "poll" if signals == "poll" else "listen"
    services = [await start_service(agent, notify=notify) for _ in range(2)]
    conversation_id = an_id()
    number = 0

    async def talk(runs: int) -> None:
        nonlocal number
        for _ in range(runs):
            what = chance.choice(["answer", "refuse", "refuse", "speak"])
            for _ in range(chance.choice([1, 1, 2, 9])):
                await a_turn_of(chance.choice(services), conversation_id, what, number)
                number += 1
            if signals.startswith("lost"):
                cut_signals(database_url)

    await talk(8)
    last = (await services[0].history(conversation_id)).last_sequence
    joined = sorted({0, 1, last - 1, last, *(chance.randrange(last) for _ in range(4))})
    told: dict[int, list[Update]] = {after: [] for after in joined}
    collecting = [
        asyncio.ensure_future(
            collect(
                services[after % 2].watch(
                    conversation_id, after_sequence=after, include_events=after % 3 == 0
                ),
                told[after],
            )
        )
        for after in joined
    ]
    await talk(6)
    with psycopg.connect(database_url) as connection:
        expected = {after: what_is_stored(connection, conversation_id, after) for after in joined}
    try:
        async with asyncio.timeout(10):
            while any(expected[after] != told_in_the_end(told[after]) for after in joined):
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass  # says below what is missing
    for task in collecting:
        task.cancel()

    for after in joined:
        assert expected[after] == told_in_the_end(told[after])
        first = next(n for n, u in enumerate(told[after]) if u.HasField("progress"))
        assert told[after][first].progress.last_sequence >= last, "progress before the backlog"
        sequence = after
        for update in told[after]:
            if update.HasField("message"):
                sequence = update.message.sequence
            elif update.HasField("progress"):
                assert sequence == update.progress.last_sequence


@pytest.mark.slow
@pytest.mark.parametrize("notify", ["listen", "poll"])
async def test_watch_goes_on_behind_hundreds_of_failures(
    start_service: StartService, notify: str
) -> None:
    """Fails when turns are told only of the first page of them."""
    speaker = Speaker()

    async def script(run: AgentRun) -> AsyncGenerator[AgentEvent, None]:
        if run.window.messages[-1].content == "refuse":
            raise AgentRefused
        async for event in speaker(run):
            yield event

    service = await start_service(ScriptedAgent(script), notify=notify)
    conversation_id = an_id()
    for _ in range(230):
        await gathered(service.chat("refuse", conversation_id=conversation_id, allow_missing=True))
    stream = service.stream("speak", conversation_id=conversation_id)
    await next_of(stream, "started")
    watch = service.watch(conversation_id, include_events=True)
    updates = await updates_until(watch, 231)
    speaker.say("so far ")
    while updates[-1].WhichOneof("update") != "event":
        updates.append(await watch.read())
    speaker.say(None)
    updates += await updates_until(watch, 232)
    while updates[-1].WhichOneof("update") != "turn":
        updates.append(await watch.read())

    states = [u.turn.state for u in updates if u.HasField("turn")]
    assert [cpb.TURN_STATE_FAILED] * 230 == states[:230]
    assert [cpb.TURN_STATE_RUNNING, cpb.TURN_STATE_COMPLETED] == states[230:]
    assert ["so far "] == [u.event.chunk.text for u in updates if u.HasField("event")]


# What many watches cost


class Counting:
    """Counts the calls of a store's methods."""

    def __init__(self, store: Any, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.calls: Counter[str] = Counter()
        for name in names:
            monkeypatch.setattr(store, name, self._counted(name, getattr(store, name)))

    def _counted(self, name: str, method: Any) -> Any:
        async def counted(*args: Any, **options: Any) -> Any:
            self.calls[name] += 1
            return await method(*args, **options)

        return counted


async def event_of(watch: Stream) -> pb.StreamChatResponse:
    """Return a watch's next event."""
    while not (update := await watch.read()).HasField("event"):
        pass
    return update.event


async def test_worker_reads_events_once_for_all_who_follow(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when each follower reads for itself, or looks at the conversation for each event."""
    speaker = Speaker()
    one, two = await start_service(ScriptedAgent(speaker)), await start_service()
    conversation_id = an_id()
    running = one.stream(conversation_id=conversation_id, allow_missing=True, request_id="r")
    await next_of(running, "started")
    watches = [two.watch(conversation_id, include_events=True) for _ in range(20)]
    attached = [two.stream(request_id="r", conversation_id=conversation_id, allow_missing=True)]
    attached += [
        two.stream(request_id="r", conversation_id=conversation_id, allow_missing=True)
        for _ in range(4)
    ]
    for stream in attached:
        await next_of(stream, "started")
    speaker.say("begin ")
    for watch in watches:
        await event_of(watch)
    for stream in attached:
        await next_of(stream, "chunk")
    counting = Counting(two.worker.store, monkeypatch, "events", "turns_since", "history")
    pieces = 10
    seen = []
    for n in range(pieces):
        speaker.say(f"{n} ")
        seen.append({(await event_of(watch)).chunk.text for watch in watches})
        seen.append({(await next_of(stream, "chunk")).chunk.text for stream in attached})

    assert [{f"{n} "} for n in range(pieces) for _ in range(2)] == seen
    assert pieces <= counting.calls["events"] <= 2 * pieces + 5
    assert counting.calls["turns_since"] == counting.calls["history"] <= 5


@pytest.mark.slow
@pytest.mark.parametrize("notify", ["listen", "poll"])
async def test_follower_that_is_behind_misses_nothing(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch, notify: str
) -> None:
    """Fails when those who come later are shown only what is kept for those who keep up."""
    monkeypatch.setattr(f"{FOLLOWING}.EVENTS_AT_ONCE", 2)
    monkeypatch.setattr(f"{FOLLOWING}.KEPT_BYTES", 20)
    speaker = Speaker()
    one = await start_service(ScriptedAgent(speaker), notify=notify)
    two = await start_service(notify=notify)
    conversation_id = an_id()
    running = one.stream(conversation_id=conversation_id, allow_missing=True, request_id="r")
    await next_of(running, "started")
    follower = {"request_id": "r", "conversation_id": conversation_id, "allow_missing": True}
    watches, streams = [], []
    position = None
    for n in range(30):
        if n % 5 == 0:
            watches.append(two.watch(conversation_id, include_events=True))
            streams.append(two.stream(after=position, **follower))
        speaker.say(f"piece {n} " if n % 7 else CALL._replace(id=f"c{n}"))
        position = await running.read()
    events = [[await event_of(watch) for _ in range(30)] for watch in watches]
    joined = 0
    for stream in streams:
        await next_of(stream, "started")
        events.append([await stream.read() for _ in range(30 - joined)])
        joined += 5

    expected = [[*range(30)]] * 6 + [[*range(first, 30)] for first in range(0, 30, 5)]
    assert expected == [[event.index for event in each] for each in events]
    speaker.say(None)
    answer = (await rest_of(running))[-1].completed.response
    assert answer == "".join(event.chunk.text for event in events[0])


async def test_watches_hold_little_of_what_their_callers_do_not_take(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a watch holds what it has read until its caller takes it."""
    bound = 200_000
    monkeypatch.setattr(f"{PAGES}.HELD_BYTES", bound)
    service = await start_service()
    conversation_id = (await service.chat("x" * 30_000)).conversation_id
    for _ in range(9):
        await service.chat("x" * 30_000, conversation_id=conversation_id)
    connection = await Connection.opened(service.port, {INITIAL_WINDOW_SIZE: 0})
    for after in range(15):
        request = pb.WatchConversationRequest(conversation_id=conversation_id, after_sequence=after)
        body = message(request.SerializeToString())
        await connection.send(connection.call("WatchConversation", metadata("ada"), body)[1])
    pages = service.worker.watches.pages
    while service.worker.admission.watches.in_use < 15 or not pages.held_bytes:
        await asyncio.sleep(0.01)
    for _ in range(3):
        updates = await updates_until(service.watch(conversation_id), 20)
        assert list(range(1, 21)) == [u.message.sequence for u in updates if u.HasField("message")]

    assert 0 < pages.held_bytes <= bound
    connection.close()
    while service.worker.admission.watches.in_use > 3:
        await asyncio.sleep(0.01)
    assert 0 == pages.held_bytes
