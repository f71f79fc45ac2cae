"""Markdown as it comes: whatever the cuts, the width and the height, it is on the screen once."""

import io
import re
import threading
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from parley_client.cli.live import LiveMarkdown
from parley_client.cli.markdown import MarkdownRenderer, whole_blocks
from parley_client.cli.text import harmless
from support.emulator import Emulator

TEXT = """# Title

A paragraph with **bold**, `code` and
a second line, [a link](https://example.org) and 12 °C.

- one
- two
  - inner
- three

1. first
2. second

```python
def hello():
    return "世界"
```

| name | value |
|------|------:|
| a    | 1     |
| b    | 22    |

> quoted
> twice

---
<b>no html</b> is lost &amp; neither is ![a picture](pic.png) nor a#b.

[ref]: https://example.org/ref
"""

FRAGMENTS = st.sampled_from(
    ["# ", "#", "- ", "1. ", "> ", "```", "```\n", "---", "===", "| a | b |", "|---|---|", "\n",
     "\n\n", "    ", "  ", "*", "**", "_x_", "`", "word ", "Zwei ", "世界", "[a](b)", "<i>", "\\",
     "[r]: u", "![i](j)", "~~", "\t", "é", "7", "\x1b[2J", "\r\n", "end."]
)  # fmt: skip


def a_terminal(columns: int, rows: int) -> tuple[Console, Emulator, LiveMarkdown]:
    emulator = Emulator(columns, rows)
    console = Console(file=io.StringIO(), force_terminal=True, width=columns, height=rows)
    return console, emulator, LiveMarkdown(console, lambda text: emulator.feed(crlf(text)))


def crlf(text: str) -> str:
    """Return what the terminal's driver makes of it."""
    return text.replace("\n", "\r\n")


def drawn_at_once(view: LiveMarkdown, pieces: list[str]) -> None:
    """Show the pieces, and do not wait for the clock."""
    for piece in pieces:
        view.say(piece)
        timers.pop().function()
    view.end()


def shown(console: Console, text: str) -> str:
    lines = MarkdownRenderer(console).lines(harmless(text))
    return "".join(re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() + "\n" for line in lines)


timers: list[threading.Timer] = []
"""Those that were started: their time comes when a test says so."""


@pytest.fixture(autouse=True)
def timers_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing by the clock is what the tests on a terminal are for."""
    timers.clear()
    monkeypatch.setattr(threading.Timer, "start", lambda timer: timers.append(timer))


@pytest.mark.slow
@pytest.mark.parametrize("columns", [8, 20, 80, 200])
@pytest.mark.parametrize("rows", [3, 10, 100])
def test_markdown_that_comes_piece_by_piece_ends_as_the_whole(columns: int, rows: int) -> None:
    """Fails when live lines are not cropped to the screen's height: some then appear twice."""
    console, emulator, view = a_terminal(columns, rows)
    drawn_at_once(view, [TEXT[n : n + 5] for n in range(0, len(TEXT), 5)])
    assert shown(console, TEXT).rstrip() == emulator.text.rstrip()


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(FRAGMENTS, min_size=1, max_size=6).map("".join), min_size=1, max_size=8),
    st.integers(5, 60),
    st.integers(3, 12),
)
@example(["para\n#", "hashtag\n"], 40, 10)
@example(["- a\n\n-", "--\n"], 40, 10)
def test_no_letter_is_lost_or_shown_twice(pieces: list[str], columns: int, rows: int) -> None:
    """Fails when a line that is not whole counts as a block ("para\\n#", "hashtag")."""
    text = "".join(pieces)
    console, emulator, view = a_terminal(columns, rows)
    drawn_at_once(view, pieces)
    assert Counter() == letters(harmless(text)) - letters(emulator.text)
    assert shown(console, text).rstrip() == emulator.text.rstrip()


def letters(text: str) -> Counter[str]:
    return Counter(filter(str.isalnum, text))


@pytest.mark.parametrize(
    ("whole", "text"),
    [
        (0, ""),
        (0, "one"),
        (0, "one\n\n"),
        (5, "one\n\ntwo\n"),
        (0, "one\n\ntwo"),
        (0, "one\n#"),
        (0, "one\n# two"),
        (4, "one\n# two\n"),
        (0, "- a\n\n- b\n"),
        (0, "```\na\n\nb\n"),
        (10, "```\na\n```\nb\n"),
        (0, "a | b\n--|--\n1 | 2\n"),
    ],
)
def test_a_block_is_whole_when_a_whole_line_of_the_next_one_is_there(whole: int, text: str) -> None:
    assert whole == whole_blocks(text)


@pytest.mark.parametrize(
    "text",
    [
        "<b>x</b> and <https://a.b>",
        "<div>\nx\n</div>",
        "[r]: https://x.y",
        "1. one\n5. five",
        "1.",
    ],
)
def test_what_would_not_be_shown_is_shown_as_it_was_written(text: str) -> None:
    """Fails when Rich's parser is taken as it is, or what it draws: HTML, numbers are lost."""
    console, _, _ = a_terminal(80, 24)
    assert f"{text}\n" == shown(console, text)


def test_a_table_that_does_not_fit_is_shown_as_it_was_written() -> None:
    """Fails when what Rich makes of it is taken as it is: columns become too narrow for letters."""
    console, _, _ = a_terminal(10, 24)
    table = "| alpha | beta | gamma | delta |\n|--|--|--|--|\n| one | two | three | four |\n"
    assert letters(table) == letters(shown(console, table))
    assert "|" in shown(console, table)


def test_code_is_labelled_and_lines_stay_as_they_are() -> None:
    console, _, _ = a_terminal(40, 24)
    assert "  python\n  if x:\n      y()\n" == shown(console, "```python\nif x:\n    y()\n```")
    assert "roses\nviolets\n" == shown(console, "roses\nviolets")


def test_a_line_that_has_not_changed_is_not_drawn_again() -> None:
    """Fails when all of a block is drawn again at each piece, which flickers."""
    written: list[str] = []
    console, _, _ = a_terminal(80, 24)
    view = LiveMarkdown(console, written.append)
    drawn_at_once(view, ["- one\n- two\n- thr", "ee\n", "- four\n"])
    assert 1 == "".join(written).count("one") == "".join(written).count("two")
    assert "\x1b[2J" not in "".join(written)


def test_a_window_that_became_narrower_is_drawn_over() -> None:
    """Fails when a drawn line counts as one row whatever the width is now."""
    console, emulator, view = a_terminal(40, 10)
    view.say("- " + "word " * 7)
    timers.pop().function()
    console.width = 20
    emulator.make_narrower(20)
    view.end()
    assert 7 == emulator.text.count("word")


def test_an_entity_is_as_harmless_as_the_character_that_it_stands_for() -> None:
    """Fails if only the text is made harmless: Markdown turns entities into characters later."""
    console, _, _ = a_terminal(80, 24)
    lines = MarkdownRenderer(console).lines("invoice&#x202E;fdp and `code` &zwnj; &rlm;&#27;[2J")
    assert ["invoice⟨U+202E⟩fdp", "⟨U+200C⟩ ⟨U+200F⟩�[2J"] == [
        part.strip() for part in re.sub(r"\x1b\[[0-9;]*m", "", lines[0]).split("and code")
    ]
