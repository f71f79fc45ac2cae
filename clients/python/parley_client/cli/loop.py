"""A conversation in a terminal."""

from dataclasses import replace

from parley_client.calls import new_request_id
from parley_client.cli.answers import Question, ask
from parley_client.cli.commands import Commands, Place, WrongCommand
from parley_client.cli.failures import sentences
from parley_client.cli.prompt import prompt_for
from parley_client.cli.screen import Screen
from parley_client.errors import (
    AttemptsExhausted,
    InvalidRequest,
    ParleyError,
    RequestIdReused,
    TurnSuperseded,
)
from parley_client.sync_client import ParleyClient


class Loop:
    """Asks for what to say and shows answers until Ctrl-D."""

    def __init__(
        self,
        client: ParleyClient,
        screen: Screen,
        place: Place,
        commands: Commands,
        *,
        agent: str,
        timeout_s: float,
        address: str,
        go_on_with: str,
        remembers: bool,
    ) -> None:
        """Make a loop.

        Args:
            place: where to talk; the commands may lead elsewhere.
            go_on_with: what to paste to go on with a conversation; its id comes behind it.
            remembers: keep what is written for the next session.
        """
        self._client = client
        self._screen = screen
        self._place = place
        self._commands = commands
        self._agent = agent
        self._timeout_s = timeout_s
        self._address = address
        self._go_on_with = go_on_with
        self._prompt = prompt_for(commands.names, remembers=remembers)
        self._failed: Question | None = None
        """What was asked last, if it has no answer."""

    def run(self) -> None:
        """Talk until Ctrl-D.

        Raises: ParleyError: the conversation to go on with cannot be read.
        """
        if not self._place.is_new:
            self._commands.recall()
        self._screen.hint("Ctrl-D ends, Ctrl-C stops an answer, /help says more.")
        while True:
            try:
                self._take(self._prompt.read())
            except EOFError:
                break
            except KeyboardInterrupt:
                self._screen.line("")  # leaves the line that was begun
            except UnicodeError:
                self._screen.complain("this is not UTF-8")
        self._screen.line("")  # leaves the prompt
        if not self._place.is_new:
            self._screen.hint(f"Go on with: {self._go_on_with}{self._place.conversation_id}")

    def _take(self, text: str) -> None:
        """Do what a command says, or ask. Raises: EOFError: that was all."""
        if text.startswith("/") and not text.startswith("//") and "\n" not in text:
            self._command(text)
            return
        question = self._question(text.removeprefix("/") if text.startswith("//") else text)
        if question is not None:
            self._ask(question)

    def _command(self, line: str) -> None:
        try:
            self._commands.run(line.strip())
        except WrongCommand as error:
            self._screen.complain(str(error))
        except ParleyError as error:
            self._screen.complain(*sentences(error, self._address))
        except (OSError, ValueError) as error:
            self._screen.complain(str(error))

    def _question(self, text: str) -> Question | None:
        """Return what to ask: after a failure, an empty line or the same one is the same turn."""
        failed = self._failed
        if failed is not None and failed.conversation_id != self._place.conversation_id:
            failed = None
        if not text.strip() or (failed is not None and failed.message == text):
            return failed
        return Question(text, self._place.conversation_id, agent=self._agent, waits=True)

    def _ask(self, question: Question) -> None:
        self._failed = question
        question = replace(question, is_new=self._place.is_new)
        try:
            ask(self._client, self._screen, question, timeout_s=self._timeout_s)
            self._place.is_new = False
            self._failed = None
        except KeyboardInterrupt:
            self._screen.notice("Stopped waiting. An empty line asks again.")
        except ParleyError as error:
            self._failed = _again(question, error)
            again = ["An empty line asks again."] if self._failed else []
            self._screen.complain(*sentences(error, self._address), *again)
        except (OSError, ValueError) as error:  # the token, or text that is no UTF-8
            self._screen.complain(str(error))


def _again(question: Question, error: ParleyError) -> Question | None:
    """Return what to ask when the same is wanted again; None: it would fail again."""
    if isinstance(error, InvalidRequest):
        return None
    if isinstance(error, TurnSuperseded | AttemptsExhausted | RequestIdReused):
        return replace(question, request_id=new_request_id())
    return question
