"""Runs a conversation in a terminal."""

from collections.abc import Callable
from dataclasses import replace

from parley_client.caller_tools import waits
from parley_client.calls import new_request_id
from parley_client.cli.answers import Question
from parley_client.cli.commands import Commands, CurrentConversation, WrongCommand
from parley_client.cli.failures import sentences
from parley_client.cli.prompt import prompt_for
from parley_client.cli.screen import Screen
from parley_client.cli.waiting import Waiting, ask_and_decide, say_how_to_go_on
from parley_client.errors import (
    AttemptsExhausted,
    ConversationNotFound,
    InvalidRequest,
    ParleyError,
    RequestIdReused,
    TurnSuperseded,
)
from parley_client.sync_client import ParleyClient


class Loop:
    """Reads messages and shows answers until Ctrl-D."""

    def __init__(
        self,
        client: ParleyClient,
        screen: Screen,
        current: CurrentConversation,
        commands: Commands,
        *,
        agent: str,
        timeout_s: float,
        address: str,
        go_on_with: str,
        command: Callable[..., str],
        remembers: bool,
    ) -> None:
        """Make a loop.

        Args:
            current: the conversation; commands may change it.
            timeout_s: for each answer, in seconds.
            go_on_with: the command that continues a conversation, without its id at the end.
            command: returns another command for the same server from its words.
            remembers: keep what is written for the next session.
        """
        self._client = client
        self._screen = screen
        self._current = current
        self._commands = commands
        self._agent = agent
        self._timeout_s = timeout_s
        self._address = address
        self._go_on_with = go_on_with
        self._command = command
        self._prompt = prompt_for(commands.names, remembers=remembers)
        self._failed: Question | None = None
        """The last question, if it has no answer."""
        self._waits_for_us = False
        """Its turn waits for a decision: another message takes its place."""

    def run(self) -> None:
        """Talk until Ctrl-D.

        Raises: ParleyError: the conversation to continue cannot be read.
        """
        if not self._current.is_new:
            self._commands.recall()
        self._screen.hint("Ctrl-D ends, Ctrl-C stops an answer, /help says more.")
        while True:
            try:
                self._take(self._prompt.read())
            except EOFError:
                break
            except KeyboardInterrupt:
                self._screen.print_line("")  # leaves the unfinished line
            except UnicodeError:
                self._screen.complain("the message is not UTF-8")
        self._screen.print_line("")  # leaves the prompt
        if not self._current.is_new:
            self._screen.hint(f"Continue with: {self._go_on_with}{self._current.conversation_id}")

    def _take(self, text: str) -> None:
        """Run a command, or ask. Raises: EOFError: the command is /exit."""
        if text.startswith("/") and not text.startswith("//") and "\n" not in text:
            self._run_command(text)
            return
        question = self._question(text.removeprefix("/") if text.startswith("//") else text)
        if question is not None:
            self._ask(question)

    def _run_command(self, line: str) -> None:
        try:
            self._commands.run(line.strip())
        except WrongCommand as error:
            self._screen.complain(str(error))
        except ParleyError as error:
            self._screen.complain(*sentences(error, self._address))
        except (OSError, ValueError) as error:
            self._screen.complain(str(error))

    def _question(self, text: str) -> Question | None:
        """Return what to ask: after a failure, an empty or equal line repeats the same turn."""
        failed = self._failed
        if failed is not None and failed.conversation_id != self._current.conversation_id:
            failed = None
        if not text.strip() or (failed is not None and failed.message == text):
            return failed
        return Question(
            text,
            self._current.conversation_id,
            agent=self._agent,
            waits=True,
            replaces=failed is not None and self._waits_for_us,
        )

    def _ask(self, question: Question) -> None:
        self._failed, self._waits_for_us = question, False
        question = replace(question, is_new=self._current.is_new)
        try:
            answered = ask_and_decide(
                self._client, self._screen, question, timeout_s=self._timeout_s
            )
            self._current.is_new = False
            self._waits_for_us = waits(answered.response)
            self._failed = question if self._waits_for_us else None
            if self._waits_for_us:
                turn = Waiting(request_id=question.request_id)
                say_how_to_go_on(self._screen, turn, answered.response, self._command)
                self._screen.hint("An empty line asks again; another message takes its place.")
        except KeyboardInterrupt:
            self._screen.notice("Stopped waiting. An empty line asks again.")
        except ParleyError as error:
            self._failed = _again(question, error)
            again = ["An empty line asks again."] if self._failed else []
            self._screen.complain(*sentences(error, self._address), *again)
        except (
            OSError,
            ValueError,
        ) as error:  # a token that cannot be read, or text that is not UTF-8
            self._screen.complain(str(error))


def _again(question: Question, error: ParleyError) -> Question | None:
    """Return the question that repeats a failed one; None: it would fail again."""
    if isinstance(error, InvalidRequest | ConversationNotFound):
        return None
    if isinstance(error, TurnSuperseded | AttemptsExhausted | RequestIdReused):
        return replace(question, request_id=new_request_id())
    return question
