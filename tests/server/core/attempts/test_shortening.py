"""Shortening a text: whatever the text and the limit."""

from hypothesis import example, given
from hypothesis import strategies as st

from parley_server.core.attempts.window import CUT, shortened

LEAST = 2 * 16 + len(CUT.encode())
"""Below that a limit is not kept: something has to be shown."""

texts = st.text(st.sampled_from("a é漢𝄞\n\u0301[…]"), max_size=400)


@given(texts, st.integers(0, 700))
@example("𝄞" * 100, LEAST)
@example("é" * 225_000, 1024)
def test_shortened_text_fits_and_has_the_ends_of_the_whole_one(text: str, limit: int) -> None:
    """Fails when a cut is counted in characters, or goes through one."""
    short = shortened(text, limit)

    if len(text.encode()) <= limit:
        assert text == short
        return
    assert max(limit, LEAST) >= len(short.encode())
    head, tail = next(
        (short[:at], short[at + len(CUT) :])
        for at in range(len(short))
        if short.startswith(CUT, at)
        and text.startswith(short[:at])
        and text.endswith(short[at + len(CUT) :])
    )
    # A character has at most four bytes: no more than three are lost at each cut, one to halving.
    assert len((head + tail).encode()) >= limit - len(CUT.encode()) - 7
