"""Finds the turn that a command is about: by its request id, by its ids, or as the newest one."""

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import typer
from typer import Argument, Option

from parley_client.cli.completion import complete_conversation
from parley_client.sync_client import ParleyClient

_LOOKED_AT = 50

TurnsConversation: TypeAlias = Annotated[
    str,
    Argument(
        help="The turn's conversation.",
        autocompletion=complete_conversation,
        show_default=False,
    ),
]
TurnId: TypeAlias = Annotated[str, Argument(help="The turn's id.", show_default="the newest one")]
TurnsRequestId: TypeAlias = Annotated[
    str,
    Option(
        "--request-id",
        help="The turn's request id, instead of its ids.",
        show_default=False,
    ),
]


class NoTurn(ValueError):
    """The conversation has no turn. The text says so."""


@dataclass(frozen=True, slots=True)
class NamedTurn:
    """A turn, as its user names it."""

    conversation_id: str
    turn_id: str
    request_id: str

    def __post_init__(self) -> None:
        """Check it. Raises: BadParameter: it is named in no way, or in two."""
        if bool(self.request_id) == bool(self.conversation_id):
            raise typer.BadParameter("name the turn: CONVERSATION [TURN], or --request-id")

    def found(self, client: ParleyClient, timeout_s: float) -> dict[str, Any]:
        """Return the arguments with which the client names the turn; look for the newest one.

        Raises: NoTurn: the conversation has none. ParleyError.
        """
        if self.request_id:
            return {"request_id": self.request_id}
        turn_id = self.turn_id or newest_turn(client, self.conversation_id, timeout_s)
        return {"conversation_id": self.conversation_id, "turn_id": turn_id}


def newest_turn(client: ParleyClient, conversation_id: str, timeout_s: float) -> str:
    """Return the id of a conversation's newest turn that has begun.

    Raises: NoTurn: its newest messages belong to none. ParleyError.
    """
    page = client.history_page(
        conversation_id, order="newest_first", page_size=_LOOKED_AT, timeout_s=timeout_s
    )
    for message in page.messages:
        if message.turn_id:
            return message.turn_id
    raise NoTurn("the conversation's newest messages belong to no turn: name one by its id")
