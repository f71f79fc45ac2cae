"""Text of deltas, each of which holds all the text so far: some servers mean deltas so.

    "He", "Hello", "Hello you"   is Hello you
    "ha", "haha", "!"            is hahahaha!, as anywhere else
    "1", "10", "100"             is 110100: digits, spaces and the like do come so

The first three pieces decide: if each begins with the one before and goes on, and the third has
some different characters, the server tells the whole text again and again. Tokens of one text do
not grow so: a longer one would have come first.
"""

from dataclasses import dataclass

_MIN_CHARACTERS = 4
"""How many different ones the third piece has at least."""


@dataclass(slots=True)
class Growing:
    """Returns of each piece what is new."""

    held: str = ""
    """The second piece, if it may be the whole text so far."""
    _first: str = ""
    _whole: str = ""
    """All the text so far, once the server is known to tell it with each piece."""
    _is_decided: bool = False

    def feed(self, piece: str) -> str:
        """Return what a piece adds to the text, as far as that is known."""
        if self._is_decided or not piece:
            return self._behind(piece) if self._whole else piece
        if not self._first:
            self._first = piece
            return piece
        before = self.held or self._first
        is_more = len(piece) > len(before) and piece.startswith(before)
        if is_more and not self.held:
            self.held = piece
            return ""
        held, self.held, self._is_decided = self.held, "", True
        if not is_more or len(set(piece)) < _MIN_CHARACTERS:
            return held + piece
        self._whole = piece
        return piece[len(self._first) :]

    def end(self) -> str:
        """Return what was held: two pieces alone are pieces."""
        held, self.held, self._is_decided = self.held, "", True
        return held

    def _behind(self, piece: str) -> str:
        if self._whole.startswith(piece):
            return ""  # told again
        if piece.startswith(self._whole):
            new, self._whole = piece[len(self._whole) :], piece
            return new
        self._whole += piece
        return piece
