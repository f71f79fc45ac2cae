"""`parley export` and `parley import`: everything out, everything in, whenever they are stopped."""

import asyncio
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.importing import MAX_BATCH, MAX_BATCH_BYTES, batches, bytes_of
from parley_client.cli.json_lines import Export, Place, WrongFile, line_of, messages_in, place_in
from support.chatgpt_exports import a_conversation, a_message, an_answer, of_all_kinds, text_of
from support.rosters import a_named_agent, seat, started
from support.scripted_server import Code, Refusal
from support.scripted_streams import streaming
from support.services import Service, StartService, a_token, an_id
from support.terminals import PARLEY, environment, run

IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in "abc"]


@dataclass(frozen=True)
class Done:
    """What the command wrote."""

    whole: bytes
    stderr: str

    @property
    def stdout(self) -> str:
        return self.whole.decode()


async def parley(
    address: str, *arguments: str, exit_code: int = 0, stdin: bytes = b"", user: str = "ada"
) -> Done:
    """Run the command; it has to end with the exit code."""
    done = await run(*arguments, "--address", address, stdin=stdin, PARLEY_TOKEN=a_token(user))
    assert exit_code == done.returncode, done.stderr.decode()
    return Done(done.stdout, " ".join(done.stderr.decode().replace("│", " ").split()))


def address_of(service: Service) -> str:
    return f"127.0.0.1:{service.port}"


async def stored(service: Service, conversation_id: str, user: str = "ada") -> list[bytes]:
    """Return every message of a conversation, byte for byte."""
    messages: list[bytes] = []
    while True:
        page = await service.history(
            conversation_id, user=user, page_size=1000, after_sequence=len(messages)
        )
        messages += [m.SerializeToString(deterministic=True) for m in page.messages]
        if len(messages) >= page.last_sequence:
            return messages


async def fill(service: Service) -> None:
    """Store conversations with everything that one may have."""
    a, b, c = IDS
    await service.create(
        conversation_id=a, title="First.", labels={"key": "value"}, instructions="Be brief."
    )
    for text in ("one", "zwei äöü \u2028 \U0001f600", "three"):
        await service.chat(text, conversation_id=a)
    call = parts.ToolCall(id="c1", name="look_up", arguments="{}", result="r", step=1)
    usage = parts.Usage(input_tokens=3, output_tokens=4, model_requests=2)
    answer = parts.Message(
        role=parts.ROLE_ASSISTANT,
        content="known",
        tool_calls=[call],
        usage=usage,
        model="m",
        turn_id=an_id(),
        finish_reason=parts.FINISH_REASON_LENGTH,
    )
    answer.create_time.FromJsonString("2024-02-29T23:59:59.123456Z")
    system = parts.Message(role=parts.ROLE_SYSTEM, content="The user has left.")
    await service.append(b, system, answer, allow_missing=True)
    await service.create(conversation_id=c)


# Export


async def test_export_writes_each_conversation_and_then_its_messages(service: Service) -> None:
    await fill(service)
    done = await parley(address_of(service), "export")
    lines = [json.loads(line) for line in done.whole.splitlines()]

    assert [
        *("conversation", *["message"] * 6),
        *("conversation", *["message"] * 2),
        *("conversation", "done"),
    ] == [next(iter(line)) for line in lines]
    assert ("First.", "Be brief.", {"key": "value"}) == tuple(
        lines[0]["conversation"][name] for name in ("title", "instructions", "labels")
    )
    assert "zwei äöü \u2028 \U0001f600" == lines[3]["message"]["content"]


@pytest.mark.slow
async def test_export_to_a_file_goes_on_from_any_byte(service: Service, tmp_path: Path) -> None:
    """Fails if a line that was cut off counts, or a part comes twice."""
    await fill(service)
    whole = (await parley(address_of(service), "export")).whole
    file = tmp_path / "all.jsonl"
    arguments = ("export", "--output", str(file))
    await parley(address_of(service), *arguments)
    assert whole == file.read_bytes()

    ends = [0, 1, len(whole) // 3, len(whole) - 1, len(whole)]
    ends += [whole.index(b"\n") + n for n in (0, 1, 2)]
    for end in ends:
        file.write_bytes(whole[:end])
        await parley(address_of(service), *arguments, "--continue")
        assert whole == file.read_bytes(), end


async def test_export_to_a_dash_is_to_standard_output(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await service.create(title="First.")
    plain = await parley(address_of(service), "export")
    dashed = await parley(address_of(service), "export", "-o", "-")
    assert plain.whole == dashed.whole
    done = await parley(address_of(service), "export", "-o", "-", "--continue", exit_code=2)
    assert "--continue needs --output" in done.stderr
    assert [] == os.listdir(tmp_path)


async def test_export_writes_over_no_file(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("precious")
    done = await parley(address_of(service), "export", "-o", str(file), exit_code=1)
    assert "File exists" in done.stderr
    done = await parley(address_of(service), "export", "-o", str(file), "--continue", exit_code=2)
    assert "no export in it" in done.stderr
    assert "precious" == file.read_text()


async def test_export_that_fails_at_once_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    async with streaming(Refusal(Code.UNAUTHENTICATED, "UNAUTHENTICATED")) as server:
        await parley(server.address, "export", "-o", str(file), exit_code=3)
    assert not file.exists()


async def test_export_resumes_a_lost_stream_behind_the_last_part(tmp_path: Path) -> None:
    def a_part(cursor: str, **item: Any) -> pb.ExportConversationsResponse:
        return pb.ExportConversationsResponse(cursor=cursor, **item)

    conversation = parts.Conversation(conversation_id=IDS[0])
    steps = (
        [a_part("1", conversation=conversation), Refusal(reason="WATCH_EXPIRED", retry_s=0.01)],
        Refusal(reason="WORKER_DRAINED", retry_s=0.01),
        [a_part("2", message=parts.Message(content="one")), Refusal(Code.DEADLINE_EXCEEDED)],
        [a_part("3", done=pb.ExportDone())],
    )
    async with streaming(*steps) as server:
        done = await parley(server.address, "export")
    assert ["", "1", "1", "2"] == [asked.request.cursor for asked in server.asked]
    assert ["1", "2", "3"] == [json.loads(line)["cursor"] for line in done.stdout.splitlines()]


# Import of an export


@pytest.mark.slow
async def test_import_brings_back_the_same_histories(service: Service, tmp_path: Path) -> None:
    """For another user here. The guide of docs/conversations.md does it after an erasure."""
    await fill(service)
    file = tmp_path / "all.jsonl"
    await parley(address_of(service), "export", "-o", str(file))
    done = await parley(address_of(service), "import", str(file), user="bob")

    assert "3 conversations imported; 8 messages added.\n" == done.stdout
    for identity in IDS:
        assert await stored(service, identity) == await stored(service, identity, "bob")
        mine, his = [await service.conversation(identity, user=u) for u in ("ada", "bob")]
        for name in ("title", "labels", "instructions", "last_sequence", "preview"):
            assert getattr(mine, name) == getattr(his, name)

    done = await parley(address_of(service), "import", str(file), user="bob")
    assert "0 conversations imported, 3 there already; 0 messages added.\n" == done.stdout


@pytest.mark.slow
async def test_import_with_new_ids_leaves_what_is_there_alone(
    service: Service, tmp_path: Path
) -> None:
    await fill(service)
    file = tmp_path / "all.jsonl"
    await parley(address_of(service), "export", "-o", str(file))
    arguments = ("import", str(file), "--new-ids", "--label", "from=export", "--json")
    done = await parley(address_of(service), *arguments)
    told = [json.loads(line) for line in done.stdout.splitlines()]

    assert ["imported"] * 3 == [line["outcome"] for line in told]
    assert not {*IDS} & {line["conversation_id"] for line in told}
    for identity, line in zip(IDS, told, strict=True):
        assert await stored(service, identity) == await stored(service, line["conversation_id"])
    labels = (await service.conversation(told[0]["conversation_id"])).labels
    assert {"key": "value", "from": "export"} == dict(labels)
    again = [
        json.loads(n) for n in (await parley(address_of(service), *arguments)).stdout.splitlines()
    ]
    assert ["present"] * 3 == [line["outcome"] for line in again]
    assert [n["conversation_id"] for n in told] == [n["conversation_id"] for n in again]


@pytest.mark.slow
async def test_import_of_a_part_goes_on_with_the_whole(service: Service, tmp_path: Path) -> None:
    await fill(service)
    whole = (await parley(address_of(service), "export")).whole
    file = tmp_path / "all.jsonl"
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:4]) + lines[4][:20])
    for counts in (
        "1 conversation imported; 3 messages added.\n",
        "0 conversations imported, 1 there already; 0 messages added.\n",
    ):
        done = await parley(address_of(service), "import", str(file), user="bob", exit_code=1)
        assert counts == done.stdout
        assert "was not finished" in done.stderr

    file.write_bytes(whole)
    done = await parley(address_of(service), "import", str(file), user="bob")
    assert "2 conversations imported, 1 continued; 5 messages added.\n" == done.stdout
    for identity in IDS:
        assert await stored(service, identity) == await stored(service, identity, "bob")


async def test_import_leaves_a_conversation_that_has_gone_on(
    service: Service, tmp_path: Path
) -> None:
    await service.chat("one", conversation_id=IDS[0], allow_missing=True)
    file = tmp_path / "all.jsonl"
    await parley(address_of(service), "export", "-o", str(file))
    await service.chat("two", conversation_id=IDS[0])
    done = await parley(address_of(service), "import", str(file))

    assert "0 conversations imported, 1 there already; 0 messages added.\n" == done.stdout
    assert 4 == (await service.conversation(IDS[0])).last_sequence


@pytest.mark.slow
async def test_import_names_what_is_in_its_way_and_does_the_rest(
    service: Service, tmp_path: Path
) -> None:
    """Fails if messages are appended behind those of another conversation."""
    a, b, c = IDS
    for identity in IDS:
        await service.chat("one", conversation_id=identity, allow_missing=True)
    file = tmp_path / "all.jsonl"
    await parley(address_of(service), "export", "-o", str(file))
    await service.chat("other", user="bob", conversation_id=a, allow_missing=True)
    await service.chat("one", user="bob", conversation_id=b, allow_missing=True)
    await service.delete(b, user="bob")
    done = await parley(address_of(service), "import", str(file), exit_code=1, user="bob")

    assert "1 conversation imported, 2 failed; 2 messages added.\n" == done.stdout
    complaints = done.stderr
    assert f"({a}): another conversation has its id" in complaints
    assert f"({b}): it was deleted, and its id is not free yet" in complaints
    assert await stored(service, c) == await stored(service, c, "bob")
    assert 2 == (await service.conversation(a, user="bob")).last_sequence


@pytest.mark.slow
async def test_import_says_what_the_server_refuses(
    start_service: StartService, tmp_path: Path
) -> None:
    service = await start_service()
    await service.chat("a" * 2_000, conversation_id=IDS[0], allow_missing=True)
    file = tmp_path / "all.jsonl"
    await parley(address_of(service), "export", "-o", str(file))
    strict = await start_service(max_message_bytes=1_024)
    done = await parley(address_of(strict), "import", str(file), exit_code=1, user="bob")
    assert "messages[0].content" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_import_can_be_killed_at_any_time(service: Service, tmp_path: Path) -> None:
    """Each run is killed a little later than the one before, until one gets through."""
    given = [
        a_conversation(
            *(a_message(f"{n} {m}", at=1.7e9 + m) for m in range(1_500)),
            title=f"Talk {n}",
            identity=f"source-{n}",
        )
        for n in range(4)
    ]
    file = tmp_path / "conversations.json"
    file.write_bytes(text_of(*given))
    variables = environment(PARLEY_TOKEN=a_token(), PARLEY_ADDRESS=address_of(service))
    patience_s, killed, code = 0.3, 0, None
    while code != 0:
        process = subprocess.Popen(  # noqa: ASYNC220 - waited for in a thread
            [*PARLEY, "import", str(file)], env=variables, stdout=subprocess.DEVNULL
        )
        try:
            code = await asyncio.to_thread(process.wait, patience_s)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.wait)
            killed += 1
            patience_s += 0.4
    conversations = (await service.conversations()).conversations
    assert killed
    assert {f"Talk {n}" for n in range(4)} == {each.title for each in conversations}
    for each in conversations:
        number = each.title.split()[1]
        page = await service.history(each.conversation_id, page_size=1000, after_sequence=500)
        assert 1_500 == page.last_sequence
        assert [f"{number} {m}" for m in range(500, 1_500)] == [m.content for m in page.messages]


# Import from ChatGPT


async def test_import_of_chatgpts_export_says_what_is_left_out(
    service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "conversations.json"
    file.write_bytes(
        text_of(of_all_kinds(), a_conversation(a_message(), an_answer(), identity="b"))
    )
    done = await parley(address_of(service), "import", str(file))
    report, summary = done.stdout.splitlines()

    assert "2 conversations imported; 9 messages added." == summary
    assert report.startswith('"Cats and dogs ⟨U+202E⟩GODS⟨U+202C⟩" (')
    assert "left out 1 x audio_asset_pointer, 1 x call of python, 2 x character" in report
    titles = [each.title for each in (await service.conversations()).conversations]
    assert ["A talk", "Cats and dogs \u202eGODS\u202c"] == titles
    done = await parley(address_of(service), "import", str(file))
    assert "0 conversations imported, 2 there already; 0 messages added." in done.stdout


async def test_import_of_long_messages(service: Service, tmp_path: Path) -> None:
    """Batches hold at most 1 MiB."""
    texts = [f"{n} {'ä' * 50_000}" for n in range(30)] + ["a" * 262_144, "b" * 262_145]
    file = tmp_path / "conversations.json"
    file.write_bytes(text_of(a_conversation(*map(a_message, texts))))
    done = await parley(address_of(service), "import", str(file), "--json")
    [told] = [json.loads(line) for line in done.stdout.splitlines()]

    assert (31, {"message longer than 262,144 bytes": 1}) == (
        told["added_messages"],
        told["left_out"],
    )
    messages = [
        message.content
        for sequence in range(0, 31, 5)
        for message in (
            await service.history(told["conversation_id"], after_sequence=sequence, page_size=5)
        ).messages
    ]
    assert texts[:31] == messages


async def test_import_from_standard_input(service: Service) -> None:
    text = text_of(a_conversation(a_message()))
    done = await parley(address_of(service), "import", "-", stdin=text)
    assert "1 conversation imported; 1 message added.\n" == done.stdout


async def test_import_of_a_conversation_without_an_id_makes_none(service: Service) -> None:
    """With new ids, all of them would be one."""
    text = b'{"conversation": {"title": "Nameless"}}\n{"done": {}}\n'
    for more in ((), ("--new-ids",)):
        done = await parley(address_of(service), "import", "-", *more, stdin=text, exit_code=1)
        assert "it has no conversation_id" in done.stderr
    assert not (await service.conversations()).conversations


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "was not finished"),
        (b"hello\n", "line 1 is not JSON"),
        (b"hello", "line 1 is not JSON"),  # no export that was stopped
        ("[]".encode("utf-16"), "line 1 is not a JSON object"),
        (b'{"conversation":{"conv', "was not finished"),
        (b"7\n", "line 1 is not a JSON object"),
        (b'{"mine": 1}\n', "line 1 has neither a conversation nor a message"),
        (b'{"message": {"content": "a"}}\n', "line 1 is a message without a conversation"),
        (b'{"conversation": {"labels": 7}}\n', "line 1 is not as the contract says"),
    ],
    ids=str,
)
async def test_import_of_a_wrong_file_says_where_it_is_wrong(
    tmp_path: Path, text: bytes, why: str
) -> None:
    file = tmp_path / "wrong"
    file.write_bytes(text)
    done = await parley("127.0.0.1:1", "import", str(file), exit_code=2 if "line" in why else 1)
    assert why in done.stderr


# Parts


def a_part(**item: Any) -> pb.ExportConversationsResponse:
    return pb.ExportConversationsResponse(cursor="c", **item)


def test_messages_that_are_not_wanted_are_skipped() -> None:
    lines = [
        line_of(part)
        for n in range(3)
        for part in (
            a_part(conversation=parts.Conversation(title=str(n))),
            *(a_part(message=parts.Message(sequence=m + 1)) for m in range(3)),
        )
    ]
    seen = [
        (each.title, len(list(messages)) if each.title == "1" else 0)
        for each, messages in Export(lines).conversations()
    ]
    assert [("0", 0), ("1", 3), ("2", 0)] == seen


def test_message_of_another_conversation_is_refused() -> None:
    """A line was lost. Fails when the message is stored in the conversation before it."""
    a, b, _ = IDS
    lines = [
        line_of(part)
        for part in (
            a_part(conversation=parts.Conversation(conversation_id=a), conversation_id=a),
            a_part(message=parts.Message(content="of a"), conversation_id=a),
            a_part(message=parts.Message(content="as a person writes it")),
            a_part(message=parts.Message(content="of b"), conversation_id=b),
        )
    ]

    def told(count: int) -> list[list[str]]:
        export = Export(lines[:count])
        return [[m.content for m in messages] for _, messages in export.conversations()]

    assert [["of a", "as a person writes it"]] == told(3)
    with pytest.raises(WrongFile, match=f"line 4 is a message of {b}"):
        told(4)


def test_export_of_nothing_is_complete(tmp_path: Path) -> None:
    """Its only line has no cursor, since nothing lies before it."""
    file = tmp_path / "export"
    line = line_of(pb.ExportConversationsResponse(done=pb.ExportDone()))
    file.write_bytes(line)
    with file.open("rb") as opened:
        assert Place(len(line), "", is_done=True) == place_in(opened)


@pytest.mark.parametrize("longest", [10, 100_000], ids=str)
def test_place_is_behind_the_last_whole_line(tmp_path: Path, longest: int) -> None:
    line = line_of(a_part(message=parts.Message(content="a" * longest)))
    file = tmp_path / "export"
    for rest in (b"", b"{", line[:-1]):
        file.write_bytes(line + line + rest)
        with file.open("rb") as opened:
            place = place_in(opened)
        assert (2 * len(line), "c", False) == (place.offset, place.cursor, place.is_done)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1] * MAX_BATCH, [MAX_BATCH]),
        ([1] * (MAX_BATCH + 1), [MAX_BATCH, 1]),
        ([MAX_BATCH_BYTES, 1], [1, 1]),
        ([MAX_BATCH_BYTES // 2, MAX_BATCH_BYTES // 2, 0], [3]),
        ([1, MAX_BATCH_BYTES, 1], [1, 1, 1]),
    ],
    ids=["none", "full", "one more", "bytes", "just", "long"],
)
def test_batches_are_as_long_as_a_call_may_be(sizes: list[int], expected: list[int]) -> None:
    given = [parts.Message(content="a" * size) for size in sizes]
    found = list(batches(given))
    assert expected == [len(batch) for batch in found]
    assert given == [message for batch in found for message in batch]
    assert all(sum(map(bytes_of, batch)) <= MAX_BATCH_BYTES for batch in found)


def test_batches_count_tool_calls_with_their_ids() -> None:
    """As the server does. Fails when a batch is refused because of them."""
    half = "i" * (MAX_BATCH_BYTES // 2)
    call = parts.ToolCall(id=half, name="n", arguments="{}", step=1)
    given = [parts.Message(role=parts.ROLE_ASSISTANT, tool_calls=[call])] * 2
    assert [1, 1] == [len(batch) for batch in batches(given)]


@pytest.mark.parametrize(
    "line",
    [
        b'{"role": "user", "content": "one"}',
        b'{"role": "ROLE_USER", "content": "one", "new_field": 1}',
        b'{"message": {"role": "ROLE_USER", "content": "one"}, "cursor": "c"}',
    ],
    ids=["word", "contract", "part of an export"],
)
def test_messages_to_append_may_be_written_in_several_ways(line: bytes) -> None:
    assert [parts.Message(role=parts.ROLE_USER, content="one")] == list(messages_in([line, b"\n"]))


def test_message_with_an_unknown_role_is_refused() -> None:
    with pytest.raises(WrongFile, match="line 2"):
        list(messages_in([b"\n", b'{"role": "robot"}']))


@pytest.mark.slow
async def test_ten_thousand_messages_take_a_few_calls(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "conversations.json"
    talk = [a_message(f"{n} " + "word " * 40) for n in range(10_000)]
    file.write_bytes(text_of(a_conversation(*talk)))
    done = await parley(address_of(service), "import", str(file))
    assert "1 conversation imported; 10,000 messages added.\n" == done.stdout


@pytest.mark.slow
async def test_import_keeps_the_agent_that_the_server_has_and_names_one_that_it_has_not(
    start_service: StartService, tmp_path: Path
) -> None:
    """Fails for one that it has not if the conversation is not created without it then."""
    service = await started(start_service)
    for name, agent in zip(IDS, ("poet", "support", ""), strict=True):
        await service.create(conversation_id=name, agent=agent)
        await service.chat("one", conversation_id=name)
    exported = await parley(address_of(service), "export")
    file = tmp_path / "export.jsonl"
    file.write_bytes(exported.whole)
    await service.erased()
    seat(service, a_named_agent("general"), a_named_agent("poet"))

    for counts in ("3 conversations imported", "0 conversations imported, 3 there already"):
        done = await parley(address_of(service), "import", str(file))
        assert counts in done.stdout
        agents = [(await service.conversation(name)).agent for name in IDS]
        assert ["poet", "", ""] == agents
        left_out = [line for line in done.stdout.splitlines() if "left out" in line]
        assert [True] == [
            line.endswith("left out 1 x agent support, which this server does not have")
            for line in left_out
        ]
