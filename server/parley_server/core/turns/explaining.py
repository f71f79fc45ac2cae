"""ExplainTurn: what a turn's agent was shown and did, from what is stored."""

from collections.abc import Sequence

from parley_server.core.attempts.roster import Roster
from parley_server.core.attempts.window import (
    omitted_of,
    presentable,
    window_as_of,
    window_of,
)
from parley_server.core.errors import TurnNotFound
from parley_server.core.model import (
    Context,
    Explanation,
    Lease,
    Omitted,
    Owner,
    ShownMessage,
    ToolCall,
    TurnRecord,
    TurnRef,
    WindowMessage,
)
from parley_server.core.ports import ExplainStore, SteppingAgent, Store
from parley_server.core.reading import find_turn
from parley_server.core.tasks import Tasks

BEYOND = 16
"""How many messages before the first one shown are read, to say why they were not."""


class Explaining:
    """Explains turns. Nothing is written."""

    def __init__(self, store: Store, explains: ExplainStore, roster: Roster) -> None:
        self._store = store
        self._explains = explains
        self._roster = roster
        self._tasks = Tasks()

    async def explain(self, owner: Owner, name: TurnRef) -> Explanation:
        """Say what a turn's agent was shown and did.

        Raises: TurnNotFound.
        """
        return await self._tasks.shielded(self._explained(owner, name))

    async def record(self, owner: Owner, name: TurnRef) -> TurnRecord:
        """Read a turn and what is kept of it.

        Raises: TurnNotFound.
        """
        conversation_id, turn_id = name.conversation_id, name.turn_id
        if conversation_id is None or turn_id is None:
            turn = await find_turn(self._store, owner, name, may_be_behind=True)
            conversation_id, turn_id = turn.conversation_id, turn.id
        record = await self._explains.record(owner, conversation_id, turn_id)
        if record is None:
            raise TurnNotFound(name.turn_id, name.request_id)
        return record

    async def tool_calls(self, owner: Owner, record: TurnRecord) -> Sequence[ToolCall]:
        """Return what the turn's agent did: as answered, or as far as it is stored."""
        turn = record.turn
        if turn.answer is not None:
            return turn.answer.tool_calls
        if not turn.has_begun:
            return ()
        waited = record.wait.answer.tool_calls if record.wait is not None else ()
        agent = self._roster.seated(turn.agent).agent
        if not isinstance(agent, SteppingAgent):
            return waited
        told = agent.retold(await self._store.steps(owner, turn.id))
        done = [event for event in told if isinstance(event, ToolCall)]
        return max(waited, done, key=len)

    async def _explained(self, owner: Owner, name: TurnRef) -> Explanation:
        record = await self.record(owner, name)
        turn = record.turn
        settings = self._roster.seated(turn.agent).window
        digest, now = record.instructions_digest, settings.digest(record.instructions)
        if turn.answer is None:
            digest = now
        messages: list[ShownMessage] = []
        omitted: list[Omitted] = []
        if turn.has_begun:
            messages, omitted = await self._shown(owner, record)
        return Explanation(
            turn=turn,
            messages=messages,
            omitted=omitted,
            instructions_digest=digest,
            is_unchanged=digest == now and self._roster.find(turn.agent) is not None,
            tool_calls=await self.tool_calls(owner, record),
            attempts=record.attempts if turn.has_begun else (),
        )

    async def _shown(
        self, owner: Owner, record: TurnRecord
    ) -> tuple[list[ShownMessage], list[Omitted]]:
        """Read what the turn was shown, or would be, and say what it was not.

        Raises: TurnNotFound: it was deleted meanwhile.
        """
        turn = record.turn
        sequence = turn.user_sequence
        context = turn.context or await self._context(owner, record)
        first = context.first_sequence
        looked_from = max(1, first - BEYOND)
        newest_first: list[WindowMessage] = []
        if sequence > 1:
            newest_first = await self._explains.shown(
                owner, turn.conversation_id, looked_from, sequence
            )
        earlier = presentable(newest_first, first)
        if len(earlier) + 1 < context.message_count:
            await self.record(owner, record.name)
        settings = self._roster.seated(turn.agent).window
        room = settings.room(record.instructions)
        (own,) = window_of((), sequence, record.message, room).messages
        shown = [ShownMessage(message) for message in earlier]
        shown.append(ShownMessage(own, is_shortened=own.content != record.message))
        return shown, omitted_of(newest_first, first, sequence, looked_from)

    async def _context(self, owner: Owner, record: TurnRecord) -> Context:
        settings = self._roster.seated(record.turn.agent).window
        window = await window_as_of(self._store, owner, as_lease(record), record.message, settings)
        return window.context


def as_lease(record: TurnRecord) -> Lease:
    """Return what names a turn where its window is read. Nothing was taken."""
    turn = record.turn
    return Lease(
        turn.conversation_id,
        turn.id,
        turn.attempt,
        turn.fence,
        turn.user_sequence,
        instructions=record.instructions,
    )
