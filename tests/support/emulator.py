"""A terminal's screen: what a person sees of what a program writes, and can scroll back to."""

import re
import unicodedata

_TOKEN = re.compile(
    r"\x1b\[(?P<mode>\??)(?P<numbers>[0-9;]*)(?P<command>[A-Za-z])"
    r"|(?P<other>\x1b[()][A-Z0-9]|\x1b[=>78])"
    r"|(?P<character>[^\x1b])",
    re.DOTALL,
)


class Emulator:
    """Draws characters and cursor movements as a VT100 does, as far as the command uses it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.scrolled: list[str] = []
        """Lines that have left the screen at its top."""
        self._lines: list[list[str]] = [[] for _ in range(rows)]
        self._row = self._column = 0
        self._wraps = True
        self._rest = ""

    @property
    def text(self) -> str:
        """Everything, from the first line that was ever written to the one of the cursor."""
        shown = ["".join(line).rstrip() for line in self._lines]
        shown[self._row] = shown[self._row].ljust(self._column)
        while len(shown) > self._row + 1 and not shown[-1]:
            shown.pop()
        return "\n".join([*self.scrolled, *shown])

    def make_narrower(self, columns: int) -> None:
        """Make the window narrower: the line of the cursor is wrapped, as terminals do it."""
        line = self._lines[self._row]
        parts = [line[at : at + columns] for at in range(0, len(line), columns)]
        self._lines[self._row : self._row + len(parts)] = parts
        self._row, self._column = self._row + len(parts) - 1, len(parts[-1])
        self.columns = columns

    def feed(self, text: str) -> None:
        text = self._rest + text
        at = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:  # the beginning of a sequence: the rest is still to come
                break
            at = token.end()
            if token["character"]:
                self._character(token["character"])
            elif token["command"]:
                numbers = [int(number or 0) for number in token["numbers"].split(";")]
                self._command(token["mode"] + token["command"], numbers[0], numbers)
        self._rest = text[at:]
        assert len(self._rest) < 20, f"an unknown sequence: {self._rest!r}"

    def _character(self, character: str) -> None:
        match character:
            case "\n":
                self._down()
            case "\r":
                self._column = 0
            case "\b":
                self._column = max(0, min(self._column, self.columns - 1) - 1)
            case "\a":
                pass
            case "\t":
                self._column = min(self.columns - 1, (self._column // 8 + 1) * 8)
            case _:
                assert character.isprintable(), f"{character!r} was sent to the terminal"
                self._draw(character)

    def _draw(self, character: str) -> None:
        is_wide = unicodedata.east_asian_width(character) in "WF"
        if unicodedata.combining(character):
            return
        if self._column + 1 + is_wide > self.columns:
            if self._wraps:
                self._column = 0
                self._down()
            else:
                self._column = self.columns - 1 - is_wide
        line = self._lines[self._row]
        line.extend(" " * (self._column + 1 + is_wide - len(line)))
        line[self._column] = character
        if is_wide:
            line[self._column + 1] = ""
        self._column += 1 + is_wide

    def _down(self) -> None:
        if self._row + 1 < self.rows:
            self._row += 1
            return
        self.scrolled.append("".join(self._lines.pop(0)).rstrip())
        self._lines.append([])

    def _command(self, command: str, number: int, numbers: list[int]) -> None:
        count = max(1, number)
        match command:
            case "A":
                self._row = max(0, self._row - count)
            case "B":
                self._row = min(self.rows - 1, self._row + count)
            case "C":
                self._column = min(self.columns - 1, self._column + count)
            case "D":
                self._column = max(0, self._column - count)
            case "G":
                self._column = count - 1
            case "H":
                self._row = count - 1
                self._column = max(1, numbers[1]) - 1 if len(numbers) > 1 else 0
            case "J":
                self._erase_below(number)
            case "K":
                self._erase_in_line(number)
            case "?l" | "?h" if number == 7:
                self._wraps = command == "?h"
            case "m" | "?l" | "?h" | "n" | "q":
                pass
            case _:
                raise AssertionError(f"an unknown command: {command!r} {numbers}")

    def _erase_in_line(self, which: int) -> None:
        line = self._lines[self._row]
        if which == 2:
            line.clear()
        elif which == 1:
            line[: self._column + 1] = " " * len(line[: self._column + 1])
        else:
            del line[self._column :]

    def _erase_below(self, which: int) -> None:
        assert which != 3, "nobody's scrolled lines are to be erased"
        if which == 2:
            self._lines = [[] for _ in range(self.rows)]
            return
        self._erase_in_line(0)
        for line in self._lines[self._row + 1 :]:
            line.clear()
