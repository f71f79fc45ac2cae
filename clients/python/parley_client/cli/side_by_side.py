"""Shows answers beside one another, in columns of the same width, drawn again as they grow."""

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.segment import Segment
from rich.text import Text

from parley_client.cli.markdown import MarkdownRenderer
from parley_client.cli.replies import Reply
from parley_client.cli.text import harmless
from parley_client.cli.words import call_line

NARROWEST = 32
"""The fewest characters of a column: with less, answers are shown one below the other."""
_GAP = "   "

Line = list[Segment]


def width_of(count: int, width: int) -> int:
    """Return how wide each of so many columns is on a screen; less than NARROWEST: they do not fit.

    One less in all than the screen has: behind a full line, terminals differ on where the cursor
    is.
    """
    return (width - 1 - len(_GAP) * (count - 1)) // count


class SideBySide:
    """The answers, for Rich to draw."""

    def __init__(self, replies: Sequence[Reply], *, is_markdown: bool) -> None:
        self._replies = replies
        self._is_markdown = is_markdown
        self._kept: dict[int, tuple[tuple[object, ...], list[Line]]] = {}
        """The lines of each text, with what they were made of."""

    def draw(self, is_whole: bool) -> "_Drawing":
        """Return what to draw. Args: is_whole: with every line; else the last ones that fit."""
        return _Drawing(self, is_whole)

    def lines(self, console: Console, options: ConsoleOptions, rows: int | None) -> Iterator[Line]:
        """Iterate over lines.

        Args:
            rows: how many lines there may be at most. None: all.
        """
        width = width_of(len(self._replies), options.max_width)
        narrow = options.update(width=width, no_wrap=False, overflow="fold")
        heads, bodies, feet = [], [], []
        for number, reply in enumerate(self._replies):
            title = Text(reply.title, style="bold")
            heads.append(console.render_lines(title, narrow))
            foot = Text("\n" + (reply.ending if reply.has_ended else "…"), style="dim")
            feet.append(console.render_lines(foot, narrow))
            bodies.append(self._body(number, console, narrow))
        if rows is not None:
            left = rows - max(map(len, heads)) - max(map(len, feet))
            bodies = [body[-left:] if left > 0 else [] for body in bodies]
        yield from _joined(heads, width)
        yield from _joined([body + foot for body, foot in zip(bodies, feet, strict=True)], width)

    def _body(self, number: int, console: Console, narrow: ConsoleOptions) -> list[Line]:
        """Return the lines of an answer; those of before, if it has not changed."""
        reply = self._replies[number]
        made_of = (narrow.max_width, len(reply.tool_calls), reply.text)
        if number in self._kept and self._kept[number][0] == made_of:
            return self._kept[number][1]
        calls = [Text(call_line(call), style="dim") for call in reply.tool_calls]
        shown = Group(*calls, self._text(reply.text, console, narrow.max_width))
        lines = console.render_lines(shown, narrow)
        self._kept[number] = made_of, lines
        return lines

    def _text(self, text: str, console: Console, width: int) -> Text:
        if not self._is_markdown:
            return Text(harmless(text))
        column = Console(
            file=io.StringIO(),
            force_terminal=True,
            color_system=console.color_system,  # type: ignore[arg-type]  # one of its names
            width=width + 1,  # a renderer leaves the last column free
        )
        return Text.from_ansi("\n".join(MarkdownRenderer(column).lines(harmless(text))))


class _Drawing:
    def __init__(self, answers: SideBySide, is_whole: bool) -> None:
        self._answers = answers
        self._is_whole = is_whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = None if self._is_whole else max(1, options.size.height - 1)
        for line in self._answers.lines(console, options, rows):
            yield from line
            yield Segment.line()


def _joined(columns: Iterable[list[Line]], width: int) -> Iterator[Line]:
    """Iterate over lines that go through all columns."""
    blank = [Segment(" " * width)]
    for row in zip_longest(*columns, fillvalue=blank):
        line = list(row[0])
        for cell in row[1:]:
            line += [Segment(_GAP), *cell]
        yield line
