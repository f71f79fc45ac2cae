"""Shows output: colours, harmless text and Markdown to a person, plain text to a program."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message as Proto
from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from parley.v1 import conversation_pb2 as parts
from parley_client.cli.live import AsItIs, Harmless, LiveMarkdown, View
from parley_client.cli.markdown import MarkdownRenderer
from parley_client.cli.text import ago, harmless, moment_of, one_line
from parley_client.cli.words import call_line, ended_by, speaker_of, tokens_of


class Screen:
    """Writes answers to standard output, everything else to standard error."""

    def __init__(
        self, out: TextIO | None = None, *, plain: bool = False, is_quiet: bool = False
    ) -> None:
        """Make a screen.

        Args:
            out: where answers go. None: standard output.
            plain: show text as it was written, not as Markdown.
            is_quiet: show answers and errors only.
        """
        self._stream = out or sys.stdout
        self._out = _console(self._stream)
        self._err = _console(sys.stderr)
        self._is_quiet = is_quiet
        self.is_terminal = self._out.is_terminal
        """Whether a person reads the answers."""
        self.is_smart = self.is_terminal and not (
            self._out.is_dumb_terminal or self._out.legacy_windows
        )
        """Whether lines on it can be drawn again."""
        self.is_markdown = self.is_smart and not (plain or is_quiet)
        """Whether answers appear as Markdown."""
        self._view = self._new_view()
        self._spinner: Progress | None = None

    def _new_view(self) -> View:
        if not self.is_terminal:
            return AsItIs(self._write)
        if self.is_markdown:
            return LiveMarkdown(self._out, self._write)
        return Harmless(self._write)

    # Beside the answers

    def complain(self, *lines: str) -> None:
        """Write to standard error what went wrong, and below it what to do."""
        if self.is_terminal:
            self._fresh_line()
        first, *rest = map(harmless, lines)
        self._err.print(Text("parley: ", style="bold red") + Text(first, style="default"))
        for line in rest:
            self._err.print(Text(f"  {line}", style="dim"))

    def hint(self, *lines: str) -> None:
        """Write lines to standard error, if a person reads them."""
        if self._err.is_terminal and not self._is_quiet:
            for line in lines:
                self._err.print(Text(harmless(line), style="dim"))

    def notice(self, line: str) -> None:
        """Interrupt an answer that is under way with a hint on a separate line."""
        self._fresh_line()
        self.hint(line)

    @property
    def width(self) -> int:
        """How many characters a line has."""
        return self._out.width

    @property
    def can_ask(self) -> bool:
        """Whether a person reads questions and can answer them."""
        streams = (sys.stdin, sys.stderr)  # None: closed by the caller
        return all(stream is not None and stream.isatty() for stream in streams)

    def ask(self, question: str) -> bool:
        """Ask a person on standard error. No answer, or the end of the input, is a no."""
        return self._answer(f"{question} [y/N] ").lower() in ("y", "yes")

    def ask_for(self, word: str, question: str) -> bool:
        """Ask a person to type a word, for what cannot be undone. Anything else is a no."""
        return self._answer(f"{question} Type {word} to go on: ") == word

    def ask_or_leave(self, question: str) -> str:
        """Ask a person for a line. Raises: KeyboardInterrupt: there is no more input."""
        self._err.print(Text(f"{harmless(question)} "), end="")
        answer = sys.stdin.readline()
        if not answer:
            self._err.print()
            raise KeyboardInterrupt
        return answer.strip()

    def show_request(self, call: parts.PendingCall) -> None:
        """Show on standard error which tool the agent wants to run, and with what exactly."""
        self._fresh_line()
        self._err.print(Text(f"The agent wants to run {one_line(call.name)}:", style="bold"))
        for line in harmless(call.arguments).split("\n"):
            self._err.print(Text(f"    {line}"))

    def _answer(self, question: str) -> str:
        self._err.print(Text(harmless(question)), end="")
        answer = sys.stdin.readline()
        if not answer.endswith("\n"):
            self._err.print()  # leaves the question's line
        return answer.strip()

    @property
    def _is_followed(self) -> bool:
        """Whether a person sees what is drawn on standard error, and drawn again."""
        return self._err.is_terminal and not (self._err.is_dumb_terminal or self._is_quiet)

    @contextmanager
    def counting(self, total: int | None = None) -> Iterator[Callable[[str, int], None]]:
        """Show how far a long work has come, if a person reads.

        Args:
            total: what the work counts up to. None: that is not known.
        Returns: what to call with a text and how far the work is, as often as there is news.
        """
        bar = (BarColumn(), TaskProgressColumn()) if total else (SpinnerColumn(),)
        columns = (*bar, TextColumn("[dim]{task.description}"), TimeElapsedColumn())
        is_hidden = not self._is_followed
        with Progress(*columns, console=self._err, transient=True, disable=is_hidden) as progress:
            task = progress.add_task("", total=total)

            def show(text: str, reached: int) -> None:
                progress.update(task, description=escape(harmless(text)), completed=reached)

            yield show

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Show for how long an answer has been awaited, if a person reads.

        The display ends when the block shows something, and starts again after each tool call.
        """
        columns = (SpinnerColumn(), TextColumn("[dim]waiting"), TimeElapsedColumn())
        is_hidden = not self._is_followed
        with Progress(*columns, console=self._err, transient=True, disable=is_hidden) as spinner:
            spinner.add_task("")
            self._spinner = spinner
            try:
                yield
            finally:
                self._spinner = None

    # Answers

    def show_text(self, piece: str) -> None:
        """Show a piece of an answer: unchanged to a pipe, made harmless to a terminal."""
        if piece:
            self._stop_waiting()
            self._view.say(piece)

    def end_text(self) -> None:
        """End the answer. A pipe always gets a line break after it."""
        self._fresh_line()
        if not self.is_terminal:
            self._write("\n")

    def start_over(self, *, has_text: bool) -> None:
        """Say that what was shown of the answer is void, and begin a new line.

        Args:
            has_text: text was shown. If not, a pipe has nothing to be warned about.
        """
        void = "the agent started over: its text so far is void"
        if self.is_terminal:
            self.notice(f"({void})")
        elif has_text:
            self._write("\n")
            self.complain(void)

    def show_tool_call(self, call: parts.ToolCall) -> None:
        """Show a tool call on a separate line, if a person reads."""
        if self.is_terminal and not self._is_quiet:
            self._fresh_line()
            self._show_tool_calls([call])
            if self._spinner is not None:
                self._spinner.start()

    def show_finish_reason(self, reason: parts.FinishReason.ValueType) -> None:
        """Show why an answer ended, unless it was complete."""
        if ended := ended_by(reason):
            self.hint(f"({ended})")

    def show_usage(self, usage: parts.Usage) -> None:
        """Show how many tokens an answer took."""
        self.hint(tokens_of(usage))

    # Stored messages

    def print_json(self, message: Proto) -> None:
        """Print a message of the contract as JSON, on one line.

        Source: the proto3 JSON mapping (64-bit numbers are strings); names as in the contract.
        """
        text = MessageToJson(
            message,
            indent=None,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        self.print_line(text)

    def print_line(self, text: str) -> None:
        """Print a line for programs to read."""
        self._write(text + "\n")

    def show_message(self, message: parts.Message) -> None:
        """Show one message of a history."""
        moment = moment_of(message.create_time)
        when = ago(moment) if self.is_terminal else moment.isoformat(timespec="seconds")
        self.begin_message(f"#{message.sequence} {speaker_of(message.role)} · {when}")
        self._show_tool_calls(message.tool_calls)
        self._show_content(message)
        self.end_message()

    def begin_message(self, line: str) -> None:
        """Begin a message with a heading."""
        self._fresh_line()
        self.show(Text(line, style="bold"))

    def end_message(self) -> None:
        """End a message with an empty line."""
        self._write("\n")

    def show(self, what: RenderableType, *, fits: bool = False) -> None:
        """Show something of Rich's. Args: fits: it was made to fit the width, such as a table."""
        self._out.print(what, soft_wrap=not fits)

    @contextmanager
    def redrawing(self, draw: Callable[[bool], RenderableType]) -> Iterator[None]:
        """Draw something again and again while the block runs, and once more behind it, to stay.

        Args:
            draw: called with whether it is to be whole, or has to fit the screen's height.
        """
        try:
            with Live(
                get_renderable=lambda: draw(False),
                console=self._out,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            ):
                yield
        finally:
            self.show(draw(True), fits=True)

    def _show_content(self, message: parts.Message) -> None:
        if self.is_markdown and message.role == parts.ROLE_ASSISTANT:
            lines = MarkdownRenderer(self._out).lines(harmless(message.content))
            self._write("".join(f"{line}\n" for line in lines))
        else:
            text = message.content
            self._write((harmless(text) if self.is_terminal else text) + "\n")

    def _show_tool_calls(self, tool_calls: Iterable[parts.ToolCall]) -> None:
        for call in tool_calls:
            self.show(Text(f"  {call_line(call)}", style="dim"))

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()

    def _fresh_line(self) -> None:
        """End an answer's line on a terminal, and the display of the wait for it."""
        self._stop_waiting()
        self._view.end()

    def _stop_waiting(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()


def _console(stream: TextIO) -> Console:
    """Return a console that shows text as it is: no markup, no highlighted numbers."""
    return Console(
        file=stream,
        # Rich would take any pipe for a terminal with FORCE_COLOR, which services of CI set.
        force_terminal=stream.isatty(),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )
