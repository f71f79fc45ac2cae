"""Commands inside a conversation in a terminal: lines that begin with a slash."""

import uuid
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from parley.v1 import conversation_pb2 as parts
from parley_client.calls import READ_TIMEOUT_S
from parley_client.cli.export import default_file, export
from parley_client.cli.pager import paged
from parley_client.cli.screen import Screen
from parley_client.cli.tables import show_numbered
from parley_client.sync_client import ParleyClient

_LISTED = 20
_PAGE_SIZE = 1000


@dataclass(slots=True)
class Place:
    """The conversation that is talked in."""

    conversation_id: str
    is_new: bool = False
    """Nothing was said in it yet: it may have to be created under its id."""

    @classmethod
    def new(cls) -> "Place":
        """Return one whose id is made here, so that it stays if its first answer fails."""
        return cls(str(uuid.uuid4()), is_new=True)


class WrongCommand(Exception):
    """There is no such command, or it wants something else. Its text says what would be right."""


@dataclass(frozen=True, slots=True)
class _Command:
    run: Callable[[str], None]
    argument: str
    help: str


class Commands:
    """What lines with a slash do."""

    def __init__(
        self, client: ParleyClient, screen: Screen, place: Place, *, plain: bool, pages: bool
    ) -> None:
        """Take a place, which the commands change."""
        self._client = client
        self._screen = screen
        self._place = place
        self._plain = plain
        self._pages = pages
        self._listed: list[parts.Conversation] = []
        self._table = {
            "/new": _Command(self._new, "", "begin another conversation"),
            "/list": _Command(self._list, "[COUNT]", "your conversations, with a number each"),
            "/open": _Command(self._open, "NUMBER|ID", "go on with one of them"),
            "/history": _Command(self._history, "", "what was said here so far"),
            "/cancel": _Command(self._cancel, "", "stop the answer that is under way elsewhere"),
            "/export": _Command(
                self._export, "[FILE]", "write this conversation to a .md or .json"
            ),
            "/help": _Command(self._help, "", "this list"),
            "/exit": _Command(self._exit, "", "end, as Ctrl-D does"),
        }

    @property
    def names(self) -> list[str]:
        return list(self._table)

    def run(self, line: str) -> None:
        """Do what a line says.

        Raises: WrongCommand. EOFError: it is /exit. ParleyError, OSError, ValueError: it failed.
        """
        name, _, argument = line.partition(" ")
        command, argument = self._table.get(name), argument.strip()
        if command is None:
            close = get_close_matches(name, self._table, 1)
            nearest = f"Is it {close[0]}?" if close else "/help lists what there is."
            raise WrongCommand(f"there is no {name}. {nearest} //… says a text that begins with /")
        if argument and not command.argument:
            raise WrongCommand(f"{name} takes nothing behind it")
        command.run(argument)

    def recall(self, count: int = 2) -> None:
        """Show the last messages of the conversation. Raises: ParleyError: it cannot be read."""
        page = self._client.history_page(
            self._place.conversation_id, order="newest_first", page_size=count
        )
        for message in reversed(page.messages):
            self._screen.message(message)

    def _new(self, argument: str) -> None:
        fresh = Place.new()
        self._place.conversation_id, self._place.is_new = fresh.conversation_id, True
        self._screen.hint("A new conversation.")

    def _list(self, argument: str) -> None:
        count = int(argument) if argument.isdecimal() else 0 if argument else _LISTED
        if count < 1:
            raise WrongCommand("/list takes a number: how many at most")
        self._listed = self._conversations(count)
        show_numbered(self._screen, self._listed, self._place.conversation_id)

    def _open(self, argument: str) -> None:
        before = self._place.conversation_id, self._place.is_new
        self._place.conversation_id, self._place.is_new = self._chosen(argument), False
        try:
            self.recall()
        except BaseException:
            self._place.conversation_id, self._place.is_new = before
            raise

    def _chosen(self, argument: str) -> str:
        if not argument.isdecimal():
            if not argument:
                raise WrongCommand("/open takes a number of /list, or a conversation's id")
            return argument
        number = int(argument)
        listed = self._listed or self._conversations(_LISTED)
        if not 1 <= number <= len(listed):
            raise WrongCommand(f"there is no number {number}: /list shows which there are")
        return listed[number - 1].conversation_id

    def _history(self, argument: str) -> None:
        if self._place.is_new:
            self._screen.hint("Nothing was said here yet.")
            return
        with paged(is_wanted=self._pages) as out:
            screen = Screen(out, plain=self._plain)
            for message in self._messages():
                screen.message(message)

    def _cancel(self, argument: str) -> None:
        turn_id = "" if self._place.is_new else self._open_turn_id()
        if not turn_id:
            self._screen.hint("No answer is under way here.")
            return
        turn = self._client.cancel_turn(
            conversation_id=self._place.conversation_id, turn_id=turn_id
        )
        if turn.state == parts.TURN_STATE_RUNNING:
            self._screen.hint("It is told to stop, and has not yet.")
        elif turn.state == parts.TURN_STATE_CANCELLED:
            self._screen.hint("Stopped. What it had said is kept:")
            self.recall(1)
        else:
            self._screen.hint("It had ended by itself.")

    def _open_turn_id(self) -> str:
        """Return the turn that is under way; empty: none. A watch begins by telling of it."""
        conversation_id = self._place.conversation_id
        last = self._client.history_page(
            conversation_id, order="newest_first", page_size=1
        ).last_sequence
        found = ""
        with closing(self._client.watch(conversation_id, after_sequence=last)) as updates:
            for update in updates:
                if update.HasField("turn"):
                    is_open = update.turn.state == parts.TURN_STATE_RUNNING
                    found = update.turn.turn_id if is_open else ""
                if update.HasField("progress"):
                    break
        return found

    def _export(self, argument: str) -> None:
        if self._place.is_new:
            raise WrongCommand("nothing was said here yet that could be exported")
        conversation_id = self._place.conversation_id
        file = Path(argument).expanduser() if argument else default_file(conversation_id)
        try:
            count = export(conversation_id, self._messages(), file)
        except FileExistsError:
            raise WrongCommand(f"{file} is there already: give another name") from None
        self._screen.hint(f"{count} messages written to {file}")

    def _help(self, argument: str) -> None:
        rows = [
            (f"{name} {command.argument}", command.help) for name, command in self._table.items()
        ]
        rows += [
            ("//…", "says a text that begins with a slash"),
            ("\\ before Enter", "goes on in another line; so does Alt-Enter"),
            ("Ctrl-C", "stops an answer and keeps what was said"),
        ]
        self._screen.hint(*(f"{left:<16} {right}" for left, right in rows))

    def _exit(self, argument: str) -> None:
        raise EOFError

    def _conversations(self, count: int) -> list[parts.Conversation]:
        page_size = min(count, _PAGE_SIZE)
        return list(islice(self._client.conversations(page_size=page_size), count))

    def _messages(self) -> Iterable[parts.Message]:
        return self._client.history(
            self._place.conversation_id, page_size=_PAGE_SIZE, timeout_s=READ_TIMEOUT_S
        )
