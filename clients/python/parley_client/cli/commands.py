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
from parley_client.cli.explaining import show_explanation
from parley_client.cli.export import default_file, export
from parley_client.cli.named_turns import newest_turn
from parley_client.cli.pager import paged
from parley_client.cli.screen import Screen
from parley_client.cli.tables import show_agents, show_numbered
from parley_client.sync_client import ParleyClient

_LISTED = 20
_PAGE_SIZE = 1000


@dataclass(slots=True)
class CurrentConversation:
    """The conversation that the user talks in. Commands change it to another one."""

    conversation_id: str
    is_new: bool = False
    """It has no messages yet: the first turn may have to create it under its id."""

    @classmethod
    def new(cls) -> "CurrentConversation":
        """Return a conversation with a new id, which stays the same if its first turn fails."""
        return cls(str(uuid.uuid4()), is_new=True)


class WrongCommand(Exception):
    """The line is no valid command. The text says what is."""


@dataclass(frozen=True, slots=True)
class _Command:
    run: Callable[[str], None]
    argument: str
    help: str


class Commands:
    """Runs the lines that begin with a slash."""

    def __init__(
        self,
        client: ParleyClient,
        screen: Screen,
        current: CurrentConversation,
        *,
        plain: bool,
        pages: bool,
    ) -> None:
        """Make the commands. They change `current` when the user chooses another conversation."""
        self._client = client
        self._screen = screen
        self._current = current
        self._plain = plain
        self._pages = pages
        self._listed: list[parts.Conversation] = []
        self._table = {
            "/new": _Command(self._new, "", "start another conversation"),
            "/list": _Command(self._list, "[COUNT]", "list your conversations, with a number each"),
            "/open": _Command(self._open, "NUMBER|ID", "continue one of them"),
            "/history": _Command(self._history, "", "show this conversation's messages"),
            "/cancel": _Command(self._cancel, "", "stop an answer that is under way elsewhere"),
            "/agents": _Command(self._agents, "", "list the agents that there are"),
            "/explain": _Command(
                self._explain, "", "show what the agent was shown for its last answer, and did"
            ),
            "/export": _Command(
                self._export, "[FILE]", "write this conversation to a .md or .json file"
            ),
            "/help": _Command(self._help, "", "show this list"),
            "/exit": _Command(self._exit, "", "end, as Ctrl-D does"),
        }

    @property
    def names(self) -> list[str]:
        return list(self._table)

    def run(self, line: str) -> None:
        """Run the command on a line.

        Raises: WrongCommand. EOFError: the command is /exit. ParleyError, OSError, ValueError: the
            command failed.
        """
        name, _, argument = line.partition(" ")
        command, argument = self._table.get(name), argument.strip()
        if command is None:
            close = get_close_matches(name, self._table, 1)
            nearest = f"Did you mean {close[0]}?" if close else "/help lists the commands."
            raise WrongCommand(
                f"unknown command {name}. {nearest} To send a message that begins with /, write //"
            )
        if argument and not command.argument:
            raise WrongCommand(f"{name} has no argument")
        command.run(argument)

    def recall(self, count: int = 2) -> None:
        """Show the conversation's last messages. Raises: ParleyError: they cannot be read."""
        page = self._client.history_page(
            self._current.conversation_id, order="newest_first", page_size=count
        )
        for message in reversed(page.messages):
            self._screen.show_message(message)

    def _new(self, _argument: str) -> None:
        fresh = CurrentConversation.new()
        self._current.conversation_id, self._current.is_new = fresh.conversation_id, True
        self._screen.hint("A new conversation.")

    def _list(self, argument: str) -> None:
        count = int(argument) if argument.isdecimal() else 0 if argument else _LISTED
        if count < 1:
            raise WrongCommand("/list takes a number: the most conversations to list")
        self._listed = self._fetch_conversations(count)
        show_numbered(self._screen, self._listed, self._current.conversation_id)

    def _open(self, argument: str) -> None:
        before = self._current.conversation_id, self._current.is_new
        self._current.conversation_id, self._current.is_new = self._choose(argument), False
        try:
            self.recall()
        except BaseException:
            self._current.conversation_id, self._current.is_new = before
            raise

    def _choose(self, argument: str) -> str:
        if not argument.isdecimal():
            if not argument:
                raise WrongCommand("/open needs a number from /list, or a conversation's id")
            return argument
        number = int(argument)
        listed = self._listed or self._fetch_conversations(_LISTED)
        if not 1 <= number <= len(listed):
            raise WrongCommand(f"no conversation has the number {number}: /list shows the numbers")
        return listed[number - 1].conversation_id

    def _history(self, _argument: str) -> None:
        if self._current.is_new:
            self._screen.hint("This conversation has no messages yet.")
            return
        with paged(is_wanted=self._pages) as out:
            screen = Screen(out, plain=self._plain)
            for message in self._fetch_messages():
                screen.show_message(message)

    def _cancel(self, _argument: str) -> None:
        turn_id = "" if self._current.is_new else self._find_open_turn()
        if not turn_id:
            self._screen.hint("No answer is under way here.")
            return
        turn = self._client.cancel_turn(
            conversation_id=self._current.conversation_id, turn_id=turn_id
        )
        if turn.state == parts.TURN_STATE_RUNNING:
            self._screen.hint("The answer was asked to stop and has not stopped yet.")
        elif turn.state == parts.TURN_STATE_CANCELLED:
            self._screen.hint("Stopped. Its text so far is kept:")
            self.recall(1)
        else:
            self._screen.hint("The answer had already ended.")

    def _find_open_turn(self) -> str:
        """Return the id of the open turn; empty: none. A watch begins with it."""
        conversation_id = self._current.conversation_id
        last = self._client.history_page(
            conversation_id, order="newest_first", page_size=1
        ).last_sequence
        found = ""
        with closing(self._client.watch(conversation_id, after_sequence=last)) as updates:
            for update in updates:
                if update.HasField("turn"):
                    open_states = (parts.TURN_STATE_RUNNING, parts.TURN_STATE_WAITING)
                    is_open = update.turn.state in open_states
                    found = update.turn.turn_id if is_open else ""
                if update.HasField("progress"):
                    break
        return found

    def _agents(self, _argument: str) -> None:
        show_agents(self._screen, self._client.list_agents().agents)

    def _explain(self, _argument: str) -> None:
        if self._current.is_new:
            self._screen.hint("This conversation has no messages yet.")
            return
        conversation_id = self._current.conversation_id
        explained = self._client.explain_turn(
            conversation_id=conversation_id,
            turn_id=newest_turn(self._client, conversation_id, READ_TIMEOUT_S),
        )
        show_explanation(self._screen, explained)

    def _export(self, argument: str) -> None:
        if self._current.is_new:
            raise WrongCommand("this conversation has no messages to export")
        conversation_id = self._current.conversation_id
        try:
            file = Path(argument).expanduser() if argument else default_file(conversation_id)
        except RuntimeError:
            raise WrongCommand(f"there is no home folder for {argument}") from None
        try:
            count = export(conversation_id, self._fetch_messages(), file)
        except FileExistsError:
            raise WrongCommand(f"{file} already exists: give another name") from None
        self._screen.hint(f"{count} messages written to {file}")

    def _help(self, _argument: str) -> None:
        rows = [
            (f"{name} {command.argument}", command.help) for name, command in self._table.items()
        ]
        rows += [
            ("//…", "send a message that begins with a slash"),
            ("\\ before Enter", "continue the message on another line, as Alt-Enter does"),
            ("Ctrl-C", "stop an answer and keep its text so far"),
        ]
        self._screen.hint(*(f"{left:<16} {right}" for left, right in rows))

    def _exit(self, _argument: str) -> None:
        raise EOFError

    def _fetch_conversations(self, count: int) -> list[parts.Conversation]:
        page_size = min(count, _PAGE_SIZE)
        return list(islice(self._client.conversations(page_size=page_size), count))

    def _fetch_messages(self) -> Iterable[parts.Message]:
        return self._client.history(
            self._current.conversation_id, page_size=_PAGE_SIZE, timeout_s=READ_TIMEOUT_S
        )
