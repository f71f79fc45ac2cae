"""What the command shows. To a person: colours, harmless text, relative times. Else: plain text."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message as Proto
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from parley.v1 import conversation_pb2 as parts
from parley_client.cli.text import HarmlessPieces, ago, harmless, one_line

_SPEAKERS: dict[int, str] = {
    parts.ROLE_USER: "you",
    parts.ROLE_ASSISTANT: "agent",
    parts.ROLE_SYSTEM: "system",
}
_USUAL = (parts.FINISH_REASON_STOP, parts.FINISH_REASON_UNSPECIFIED)


class Screen:
    """Standard output for answers, standard error for everything about them."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._err = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, stderr=True)
        self._pieces = HarmlessPieces()
        self._spinner: Progress | None = None
        self._is_mid_line = False

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads the answers."""
        return self._out.is_terminal

    def complain(self, *lines: str) -> None:
        """Say on standard error what went wrong, and below it what to do."""
        if self.is_terminal:
            self._fresh_line()
        first, *rest = map(harmless, lines)
        self._err.print(Text("parley: ", style="bold red") + Text(first, style="default"))
        for line in rest:
            self._err.print(Text(f"  {line}", style="dim"))

    def hint(self, line: str) -> None:
        """Say something beside the answers, if a person reads."""
        if self._err.is_terminal:
            self._err.print(Text(line, style="dim"))

    def notice(self, line: str) -> None:
        """Say something beside an answer that is under way, on a line of its own."""
        self._fresh_line()
        self.hint(line)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Show that an answer is awaited, and for how long already, if a person looks on.

        Until something is shown inside the block, and again behind each tool call.
        """
        columns = (SpinnerColumn(), TextColumn("[dim]waiting"), TimeElapsedColumn())
        with Progress(
            *columns, console=self._err, transient=True, disable=not self._err.is_terminal
        ) as spinner:
            spinner.add_task("")
            self._spinner = spinner
            try:
                yield
            finally:
                self._spinner = None

    def json(self, message: Proto) -> None:
        """Print a message of the contract as JSON, on one line.

        Source: the proto3 JSON mapping (64-bit numbers are strings); names as in the contract.
        """
        text = MessageToJson(
            message,
            indent=None,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def text(self, piece: str) -> None:
        """Show a piece of an answer: to a pipe as it is, to a terminal made harmless."""
        if self._spinner is not None:
            self._spinner.stop()
        self._write(self._pieces.piece(piece) if self.is_terminal else piece)

    def end_text(self) -> None:
        """End the answer: a pipe gets a line break behind it, whatever it is."""
        self._fresh_line()
        if not self.is_terminal:
            self._write("\n")

    def begin_anew(self, *, has_text: bool) -> None:
        """Say that what was shown of the answer is void, and begin a new line.

        Args:
            has_text: text was shown; a pipe is not told of anything else.
        """
        void = "the agent began anew: what it said before is void"
        if self.is_terminal:
            self.notice(f"({void})")
        elif has_text:
            self._write("\n")
            self.complain(void)

    def tool_call(self, call: parts.ToolCall) -> None:
        """Show a tool call on a line of its own, if a person reads."""
        if self.is_terminal:
            self._fresh_line()
            self._tool_calls([call])
            if self._spinner is not None:
                self._spinner.start()

    def finish_reason(self, reason: parts.FinishReason.ValueType) -> None:
        """Say why an answer ended, if that is not the usual reason."""
        if reason not in _USUAL:
            name = parts.FinishReason.Name(reason)
            self.hint(f"(ended: {name.removeprefix('FINISH_REASON_').lower()})")

    def message(self, message: parts.Message) -> None:
        """Show one message of a history."""
        moment = _moment(message.create_time)
        when = ago(moment) if self.is_terminal else moment.isoformat(timespec="seconds")
        speaker = _SPEAKERS.get(message.role, "?")
        self.heading(f"#{message.sequence} {speaker} · {when}")
        self._tool_calls(message.tool_calls)
        self._said(message.content)
        self.blank()

    def heading(self, line: str) -> None:
        """Begin a message."""
        self._fresh_line()
        self._out.print(Text(line, style="bold"))

    def blank(self) -> None:
        """End a message."""
        self._out.print()

    def conversations(self, conversations: Iterable[parts.Conversation]) -> None:
        """Show conversations: to a person as a table, else a line each with tabs between."""
        if self.is_terminal:
            self._table(conversations)
            return
        for each in conversations:
            moment = _moment(each.update_time).isoformat(timespec="seconds")
            fields = (each.conversation_id, moment, str(each.last_sequence), one_line(each.title))
            sys.stdout.write("\t".join(fields) + "\n")

    def _table(self, conversations: Iterable[parts.Conversation]) -> None:
        table = Table(box=None, header_style="dim", pad_edge=False)
        table.add_column("conversation", no_wrap=True)
        table.add_column("last turn", no_wrap=True)
        table.add_column("messages", justify="right", no_wrap=True)
        table.add_column("title", no_wrap=True, overflow="ellipsis")
        for each in conversations:
            title = Text(one_line(each.title))
            if each.open_turn_id:
                title = Text("(being answered) ", style="dim") + title
            when = ago(_moment(each.update_time))
            table.add_row(each.conversation_id, when, str(each.last_sequence), title)
        if table.row_count:
            self._out.print(table, soft_wrap=False)
        else:
            self.hint("No conversations yet.")

    def _said(self, text: str) -> None:
        self._write((harmless(text) if self.is_terminal else text) + "\n")

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._is_mid_line = not text.endswith("\n")

    def _fresh_line(self) -> None:
        """End the line of an answer on a terminal, and what stands in for the answer."""
        if self._spinner is not None:
            self._spinner.stop()
        if self.is_terminal:
            self._write(self._pieces.rest())
            if self._is_mid_line:
                self._write("\n")

    def _tool_calls(self, tool_calls: Iterable[parts.ToolCall]) -> None:
        for call in tool_calls:
            mark = "failed: " if call.is_error else ""
            line = f"  → {one_line(call.name)}({one_line(call.arguments)}): {mark}"
            self._out.print(Text(line + one_line(call.result), style="dim"))


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)
