"""The commands that bring conversations out of Parley and into it."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from typer import Argument, Option

from parley_client.cli import chatgpt
from parley_client.cli.failures import INTERRUPTED, exit_codes
from parley_client.cli.importing import Importer, Outcome, Source
from parley_client.cli.json_lines import Export, Place, line_of, place_in
from parley_client.cli.options import of_a_server
from parley_client.cli.parameters import Json, labels_from
from parley_client.cli.screen import Screen
from parley_client.cli.server import Server
from parley_client.cli.text import counted, one_line
from parley_client.conversation_calls import CHANGE_TIMEOUT_S
from parley_client.errors import ParleyError
from parley_client.sync_client import ParleyClient

DEFAULT_MAX_MESSAGE_BYTES = 262_144


@of_a_server
def export(
    server: Server,
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            dir_okay=False,
            help="The file to write; - writes to standard output.",
            show_default="standard output",
        ),
    ] = None,
    goes_on: Annotated[
        bool, Option("--continue", help="Go on with a file that was not finished.")
    ] = False,
) -> None:
    """Write all your conversations as JSON lines: each conversation, then its messages."""
    screen = Screen(sys.stderr)
    output = None if str(output) == "-" else output
    if goes_on and output is None:
        raise typer.BadParameter("--continue needs --output, the file to go on with")
    with (
        exit_codes(screen, server.address),
        server.client() as client,
        _output(output, goes_on=goes_on) as (file, place),
    ):
        if place.is_done:
            screen.hint(f"{output} is complete.")
            return
        try:
            _write(client, screen, file, place.cursor)
        except KeyboardInterrupt:
            screen.complain("interrupted", *_advice(server, output, file))
            raise typer.Exit(INTERRUPTED) from None
        except ParleyError:
            screen.hint(*_advice(server, output, file))
            raise


@of_a_server
def import_(
    server: Server,
    file: Annotated[
        Path,
        Argument(
            help="What `parley export` wrote, or the conversations.json of a ChatGPT export; "
            "- reads standard input.",
        ),
    ],
    has_new_ids: Annotated[
        bool,
        Option("--new-ids", help="Give conversations other ids, derived from theirs."),
    ] = False,
    labels: Annotated[
        list[str] | None,
        Option(
            "--label",
            metavar="KEY=VALUE",
            help="A label for each conversation. May be given several times.",
        ),
    ] = None,
    max_message_bytes: Annotated[
        int,
        Option(
            "--max-message-bytes",
            min=1,
            help="How long a user's message from ChatGPT may be: what the server allows.",
        ),
    ] = DEFAULT_MAX_MESSAGE_BYTES,
    as_json: Json = False,
) -> None:
    """Store conversations from a file. An import that was stopped can be run again.

    What is there already stays as it is, and what is missing is added. What cannot be stored,
    such as a picture, is named. Of an export that was not finished, what there is is stored; the
    exit code is 1 then, as after a conversation that could not be stored.
    """
    screen = Screen()
    wanted_labels = labels_from(labels)
    with (
        exit_codes(screen, server.address),
        server.client() as client,
        _input(file) as source,
    ):
        report = _Report(screen, as_json=as_json)
        with screen.counting(_length(file)) as show:

            def note(added: int) -> None:
                report.messages += added
                show(report.counts, source.tell() if source.seekable() else 0)

            importer = Importer(
                client,
                labels=wanted_labels,
                has_new_ids=has_new_ids,
                timeout_s=server.timeout_s or CHANGE_TIMEOUT_S,
                on_progress=note,
            )
            reader = _Reader(source, max_message_bytes)
            for each in reader.sources():
                report.take(importer.wanted(each).conversation_id, each, importer.take(each))
                note(0)
        report.end(is_whole=reader.is_whole)
        if report.failed or not reader.is_whole:
            raise typer.Exit(1)


def _write(client: ParleyClient, screen: Screen, file: BinaryIO, cursor: str) -> None:
    """Write what an export brings behind a cursor."""
    conversations = messages = 0

    with screen.counting() as show, closing(client.export(cursor)) as parts:
        for part in parts:
            file.write(line_of(part))
            conversations += part.HasField("conversation")
            messages += part.HasField("message")
            if messages % 100 == 0:
                show(_counts(conversations, messages), messages)
    file.flush()
    screen.hint(f"Exported {_counts(conversations, messages)}.")


@contextmanager
def _output(output: Path | None, *, goes_on: bool) -> Iterator[tuple[BinaryIO, Place]]:
    """Open the file to write to, behind what is there if the export goes on.

    Raises: FileExistsError: the file is there, and the export does not go on. OSError. WrongFile.
    """
    if output is None:
        yield sys.stdout.buffer, Place(0, "", is_done=False)
        return
    if not goes_on or not output.exists():
        with output.open("xb") as new:
            try:
                yield new, Place(0, "", is_done=False)
            except BaseException:
                if not new.tell():
                    output.unlink()
                raise
        return
    with output.open("r+b") as file:
        place = place_in(file)
        file.seek(place.offset)
        file.truncate()
        yield file, place


def _advice(server: Server, output: Path | None, file: BinaryIO) -> list[str]:
    if output is None or not file.tell():
        return []
    return [f"To go on: {server.command('export', '--continue', '--output', str(output))}"]


@contextmanager
def _input(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    with file.open("rb") as opened:
        yield opened


def _length(file: Path) -> int | None:
    return None if str(file) == "-" else file.stat().st_size


class _Reader:
    """Reads a file in the format that its first character shows."""

    def __init__(self, file: BinaryIO, max_message_bytes: int) -> None:
        self._file = file
        self._max_message_bytes = max_message_bytes
        self._export: Export | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the file says that nothing is missing, or has no way to say so."""
        return self._export is None or self._export.is_whole

    def sources(self) -> Iterator[Source]:
        beginning = self._file.peek(64)[:64]  # type: ignore[attr-defined]  # a BufferedReader
        if beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
            for found in chatgpt.conversations_in(self._file, self._max_message_bytes):
                yield Source(found.conversation, found.messages, found.left_out)
            return
        self._export = Export(iter(self._file.readline, b""))  # tell() stays possible
        for conversation, messages in self._export.conversations():
            yield Source(conversation, messages)


class _Report:
    """Says what came of an import: as it goes for programs, at its end for a person."""

    def __init__(self, screen: Screen, *, as_json: bool) -> None:
        self._screen = screen
        self._as_json = as_json
        self._kinds = dict.fromkeys(("imported", "continued", "present", "failed"), 0)
        self.messages = 0

    @property
    def failed(self) -> int:
        return self._kinds["failed"]

    @property
    def counts(self) -> str:
        return _counts(sum(self._kinds.values()), self.messages)

    def take(self, conversation_id: str, source: Source, outcome: Outcome) -> None:
        """Note what came of a conversation; say so if not all of it was stored, or as JSON."""
        self._kinds[outcome.kind] += 1
        title = one_line(source.conversation.title)
        if self._as_json:
            line = {
                "conversation_id": conversation_id,
                "title": source.conversation.title,
                "outcome": outcome.kind,
                "added_messages": outcome.added,
                "left_out": dict(source.left_out),
                "why": outcome.why,
            }
            self._screen.print_line(json.dumps(line, ensure_ascii=False))
            return
        named = f'"{title}" ({conversation_id})'
        if source.left_out:
            what = ", ".join(f"{n} x {kind}" for kind, n in sorted(source.left_out.items()))
            self._screen.print_line(f"{named}: left out {one_line(what, 1000)}")
        if outcome.kind == "failed":
            self._screen.complain(f"{named}: {outcome.why}")

    def end(self, *, is_whole: bool) -> None:
        """Sum up."""
        new, continued, present, failed = self._kinds.values()
        if not self._as_json:
            texts = [f"{counted(new, 'conversation')} imported"]
            texts += [f"{continued} continued"] if continued else []
            texts += [f"{present} there already"] if present else []
            texts += [f"{failed} failed"] if failed else []
            self._screen.print_line(
                f"{', '.join(texts)}; {counted(self.messages, 'message')} added."
            )
        if not is_whole:
            self._screen.complain(
                "the export in the file was not finished: what is missing in it was not imported",
                "`parley export --continue --output FILE` goes on with it; then import it again.",
            )


def _counts(conversations: int, messages: int) -> str:
    return f"{counted(conversations, 'conversation')}, {counted(messages, 'message')}"
