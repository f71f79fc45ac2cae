"""Text that is fit for a terminal."""

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_client.cli.text import HarmlessPieces, ago, harmless, one_line

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_harmless_text_has_no_control_characters_but_two(text: str) -> None:
    shown = harmless(text)
    assert set() == {c for c in shown if unicodedata.category(c) == "Cc"} - {"\n", "\t"}
    assert shown == harmless(shown)


@given(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"], include_characters="\n\t")
    )
)
def test_harmless_text_keeps_everything_else(text: str) -> None:
    assert text == harmless(text)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        ("␛[31mred", "\x1b[31mred"),
        ("␛]0;title␇", "\x1b]0;title\x07"),
        ("\\x9b31m", "\x9b31m"),
        ("true␍lie", "true\rlie"),
        ("one\ntwo", "one\r\ntwo"),
        ("␀␡", "\0\x7f"),
        ("invoice⟨U+202E⟩fdp.exe", "invoice\u202efdp.exe"),
        ("⟨U+2066⟩a⟨U+2069⟩⟨U+200F⟩⟨U+061C⟩", "\u2066a\u2069\u200f\u061c"),
        ("a⟨U+200B⟩b⟨U+FEFF⟩⟨U+00AD⟩⟨U+2028⟩", "a\u200bb\ufeff\u00ad\u2028"),
        ("pay⟨U+200D⟩pal⟨U+E0041⟩", "pay\u200dpal\U000e0041"),
        ("👩\u200d💻 नी\u200cल", "👩\u200d💻 नी\u200cल"),
        ("💻\u200d⟨U+200D⟩", "💻\u200d\u200d"),
    ],
)
def test_harmless_text_shows_what_was_there(shown: str, text: str) -> None:
    assert shown == harmless(text)


BIDIRECTIONAL = [*"\u061c\u200e\u200f", *map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])]


@given(st.text(st.sampled_from(["a", "é", "💻", "\r", "\n", "\x1b", "\u200d", *BIDIRECTIONAL])))
def test_harmless_text_has_nothing_that_changes_its_order(text: str) -> None:
    assert not set(harmless(text)) & set(BIDIRECTIONAL)


PIECES = st.text(st.sampled_from(["a", "é", "💻", "\r", "\n", "\u200d", "\u202e", "\u200b"]))


@given(st.lists(PIECES))
def test_text_in_pieces_is_as_harmless_as_in_one(pieces: list[str]) -> None:
    shown = HarmlessPieces()
    assert harmless("".join(pieces)) == "".join([*map(shown.piece, pieces), shown.rest()])


def test_one_line_is_one_short_line() -> None:
    assert "a b c" == one_line("a\n\tb \r\n c ")
    assert "abc" == one_line("abc", 3)
    assert "ab…" == one_line("abcd", 3)
    assert "␛[2J" == one_line("\x1b[2J")


@pytest.mark.parametrize(
    ("said", "age"),
    [
        ("just now", timedelta(seconds=-5)),
        ("just now", timedelta(seconds=59)),
        ("1 minute ago", timedelta(seconds=60)),
        ("59 minutes ago", timedelta(minutes=59, seconds=59)),
        ("1 hour ago", timedelta(hours=1)),
        ("23 hours ago", timedelta(hours=23, minutes=59)),
        ("1 day ago", timedelta(days=1)),
        ("29 days ago", timedelta(days=29)),
        ("2026-01-30", timedelta(days=30)),
    ],
)
def test_ago_says_how_long(said: str, age: timedelta) -> None:
    assert said == ago(NOW - age, NOW)
