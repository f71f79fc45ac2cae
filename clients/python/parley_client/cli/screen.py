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
from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.text import ago, harmless, one_line

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

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads the answers."""
        return self._out.is_terminal

    def complain(self, *lines: str) -> None:
        """Say on standard error what went wrong, and below it what to do."""
        first, *rest = map(harmless, lines)
        self._err.print(Text("parley: ", style="bold red") + Text(first, style="default"))
        for line in rest:
            self._err.print(Text(f"  {line}", style="dim"))

    def hint(self, line: str) -> None:
        """Say something beside the answers, if a person reads."""
        if self._err.is_terminal:
            self._err.print(Text(line, style="dim"))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Show that an answer is awaited, and for how long already, if a person looks on."""
        columns = (SpinnerColumn(), TextColumn("[dim]waiting"), TimeElapsedColumn())
        with Progress(
            *columns, console=self._err, transient=True, disable=not self._err.is_terminal
        ) as progress:
            progress.add_task("")
            yield

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

    def answer(self, answer: pb.ChatResponse) -> None:
        """Show an answer; on a terminal, the tool calls that led to it come first."""
        if self.is_terminal:
            self._tool_calls(answer.tool_calls)
        self._said(answer.response)
        if answer.finish_reason not in _USUAL:
            name = parts.FinishReason.Name(answer.finish_reason)
            self.hint(f"(ended: {name.removeprefix('FINISH_REASON_').lower()})")

    def message(self, message: parts.Message) -> None:
        """Show one message of a history."""
        moment = _moment(message.create_time)
        when = ago(moment) if self.is_terminal else moment.isoformat(timespec="seconds")
        speaker = _SPEAKERS.get(message.role, "?")
        self._out.print(Text(f"#{message.sequence} {speaker} · {when}", style="bold"))
        self._tool_calls(message.tool_calls)
        self._said(message.content)
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
        if self.is_terminal:
            self._out.print(Text(harmless(text)))
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def _tool_calls(self, tool_calls: Iterable[parts.ToolCall]) -> None:
        for call in tool_calls:
            mark = "failed: " if call.is_error else ""
            line = f"  → {one_line(call.name)}({one_line(call.arguments)}): {mark}"
            self._out.print(Text(line + one_line(call.result), style="dim"))


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)
