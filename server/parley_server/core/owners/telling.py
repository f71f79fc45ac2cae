"""Telling calls, on any worker, that conversations are gone."""

from collections.abc import Callable, Iterable
from uuid import UUID

from parley_server.core.bells import Bells, topic_of
from parley_server.core.model import Hidden, Owner


class Telling:
    """Wakes what watches or runs something in conversations that were deleted."""

    def __init__(self, bells: Bells, on_turn_ended: Callable[[UUID], None]) -> None:
        """Tell nothing yet.

        Args:
            on_turn_ended: called with the turn that was open in such a conversation.
        """
        self._bells = bells
        self._on_turn_ended = on_turn_ended

    def tell(self, owner_id: UUID, hidden: Iterable[Hidden]) -> None:
        """Have every call look for itself."""
        owner = Owner("", "", owner_id)  # its names are not known here, nor needed
        for conversation_id, open_turn_id in hidden:
            self._bells.ring(topic_of(owner, conversation_id))
            if open_turn_id is not None:
                self._on_turn_ended(open_turn_id)
                self._bells.ring(open_turn_id)
