"""A conversation in a terminal."""

import sys
import uuid
from contextlib import suppress
from dataclasses import replace

from parley_client.calls import new_request_id
from parley_client.cli.answers import Question, ask
from parley_client.cli.failures import sentences
from parley_client.cli.screen import Screen
from parley_client.errors import InvalidRequest, ParleyError, RequestIdReused, TurnSuperseded
from parley_client.sync_client import ParleyClient

with suppress(ImportError):  # not everywhere; where it is, lines can be edited, and pasted whole
    import readline  # noqa: F401 - input() uses it

PROMPT = "> "


class Loop:
    """Asks for lines and shows answers until Ctrl-D."""

    def __init__(
        self,
        client: ParleyClient,
        screen: Screen,
        *,
        conversation_id: str,
        agent: str,
        timeout_s: float,
        address: str,
        go_on_with: str,
    ) -> None:
        """Make a loop.

        Args:
            conversation_id: the conversation to go on with. Empty: a new one. Its id is made here,
                so that it is the same one even if its first answer fails.
            go_on_with: what to paste to go on with a conversation; its id comes behind it.
        """
        self._client = client
        self._screen = screen
        self._conversation_id = conversation_id or str(uuid.uuid4())
        self._is_new = not conversation_id
        self._agent = agent
        self._timeout_s = timeout_s
        self._address = address
        self._go_on_with = go_on_with
        self._failed: Question | None = None
        """What was asked last, if it has no answer."""

    def run(self) -> None:
        """Talk until Ctrl-D.

        Raises: ParleyError: the conversation to go on with cannot be read.
        """
        if not self._is_new:
            self._recall()
        self._screen.hint("Ctrl-D ends, Ctrl-C stops an answer.")
        while True:
            try:
                line = _line()
            except EOFError:
                break
            except KeyboardInterrupt:
                print()  # noqa: T201 - leaves the line that was begun
                continue
            except UnicodeError:
                self._screen.complain("this is not UTF-8")
                continue
            question = self._question(line)
            if question is not None:
                self._ask(question)
        print()  # noqa: T201 - leaves the prompt
        if not self._is_new:
            self._screen.hint(f"Go on with: {self._go_on_with}{self._conversation_id}")

    def _recall(self) -> None:
        """Show the last messages of the conversation to go on with."""
        page = self._client.history_page(
            self._conversation_id, order="newest_first", page_size=2, timeout_s=self._timeout_s
        )
        for message in reversed(page.messages):
            self._screen.message(message)

    def _question(self, line: str) -> Question | None:
        """Return what to ask: after a failure, an empty line or the same one is the same turn."""
        if not line.strip():
            return self._failed
        if self._failed is not None and self._failed.message == line:
            return self._failed
        return Question(line, self._conversation_id, agent=self._agent, waits=True)

    def _ask(self, question: Question) -> None:
        self._failed = question
        question = replace(question, is_new=self._is_new)
        try:
            ask(self._client, self._screen, question, timeout_s=self._timeout_s)
            self._is_new = False
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
    if isinstance(error, TurnSuperseded | RequestIdReused):
        return replace(question, request_id=new_request_id())
    return question


def _line() -> str:
    """Read a line, with the prompt where a person sees it.

    Raises: EOFError: Ctrl-D. KeyboardInterrupt. UnicodeError: it is not UTF-8.
    """
    if sys.stdout.isatty():
        return input(PROMPT)
    sys.stderr.write(PROMPT)
    sys.stderr.flush()
    return input()
