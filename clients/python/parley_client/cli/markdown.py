"""Renders Markdown for a terminal, with nothing left out, and finds the part that is final."""

import io
import re
from collections import Counter
from itertools import accumulate, pairwise
from typing import ClassVar

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.syntax import Syntax
from rich.text import Text

from parley_client.cli.text import harmless

# Rich would not show HTML, pictures and definitions: here they are text.
_LEFT_OUT = ["html_block", "html_inline", "image", "reference", "autolink"]
_PARSER = MarkdownIt().enable(["strikethrough", "table"]).disable(_LEFT_OUT)
_BLOCKS = MarkdownIt().enable(["strikethrough", "table"]).disable(_LEFT_OUT)
_BLOCKS.core.ruler.enableOnly(["normalize", "block"])

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PADDING = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")


class _Code(CodeBlock):
    """Code in the terminal's own colours, so that it can be copied, and read on any background."""

    _language = ""

    @classmethod
    def create(cls, markdown: Markdown, token: Token) -> "_Code":
        code = cls(token.info.partition(" ")[0] or "text", markdown.code_theme)
        code._language = token.info.strip()
        return code

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._language:
            yield Text(f"  {self._language}", style="dim")
        yield Syntax(
            str(self.text).removesuffix("\n"),
            self.lexer_name,
            theme="ansi_dark",
            background_color="default",
            word_wrap=True,
            padding=(0, 2),
        )


class _LeftHeading(Heading):
    """A heading at the left edge."""

    LEVEL_ALIGN = dict.fromkeys(Heading.LEVEL_ALIGN, "left")


class _Document(Markdown):
    """Rich's Markdown, with the line breaks of the source."""

    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _LeftHeading,
    }

    def __init__(self, markup: str) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = _PARSER.parse(markup)
        self.required: Counter[str] = Counter()
        """The letters and digits that must be on the screen."""
        for token in self._flatten_tokens(self.parsed):
            if token.type == "softbreak":
                token.type = "hardbreak"
            token.content = harmless(token.content)  # an HTML entity may be any character
            # A list item's number is in its info: Rich counts on from the first one.
            self.required.update(filter(str.isalnum, token.content + token.info))


class MarkdownRenderer:
    """Renders Markdown as lines for one terminal."""

    def __init__(self, terminal: Console) -> None:
        self._terminal = terminal

    @property
    def width(self) -> int:
        """The lines' width, in columns.

        One less than the terminal's: behind a full line, terminals differ on where the cursor is.
        """
        return max(1, self._terminal.width - 1)

    def lines(self, text: str) -> list[str]:
        """Return the lines of a text, with colours, and with an empty line between blocks.

        Guarantees: no letter is missing. What a narrow terminal would cut off (a table's columns,
        deep lists) is shown as it was written.
        """
        lines: list[str] = []
        starts = [*_starts(text), None]
        for start, end in pairwise(starts):
            block = self._block(text[start:end])
            lines += ["", *block] if lines and block else block
        return lines

    def _block(self, text: str) -> list[str]:
        document = _Document(text)
        console = Console(
            file=io.StringIO(),
            force_terminal=True,
            color_system=self._terminal.color_system,  # type: ignore[arg-type]  # one of its names
            width=self.width,
            highlight=False,
            emoji=False,
            markup=False,
        )
        lines = console.render_lines(document, pad=False)
        shown = Counter("".join(segment.text for line in lines for segment in line))
        with console.capture() as capture:
            console.print(document if document.required <= shown else Text(text.strip("\n")))
        return _trimmed(capture.get())


def whole_blocks(text: str) -> int:
    """Return how many characters at a text's start are blocks that no later text changes.

    Only complete lines count: the beginning of a line may look like another kind of block.
    """
    last = text.rfind("\n") + 1
    return (_starts(text[:last]) or [0])[-1]


def _starts(text: str) -> list[int]:
    """Return the offsets at which blocks begin."""
    tokens = _BLOCKS.parse(text)
    lines = [token.map[0] for token in tokens if token.level == 0 and token.map]
    offsets = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    return [0 if line == lines[0] else offsets[line] for line in sorted(set(lines))]


def _trimmed(rendered: str) -> list[str]:
    lines = [_PADDING.sub(r"\1", line) for line in rendered.split("\n")]
    visible = [number for number, line in enumerate(lines) if _COLOUR.sub("", line)]
    return lines[visible[0] : visible[-1] + 1] if visible else []
