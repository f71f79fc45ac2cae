"""The store: one method a statement."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

from psycopg import Rollback

from parley_server.core.errors import (
    BudgetExhausted,
    ConversationNotFound,
    SequenceMismatch,
    StoreOutcomeUnknown,
    TurnInProgress,
    TurnLimitReached,
)
from parley_server.core.model import (
    DEFAULT_MAX_ATTEMPTS,
    NO_BUDGETS,
    RUN_AGAIN,
    AgentBudgets,
    Answer,
    Context,
    ConversationState,
    Failing,
    FailureReason,
    FinishReason,
    HistoryPage,
    HistoryQuery,
    Lease,
    NewTurn,
    Owner,
    Step,
    StoredEvent,
    Turn,
    TurnState,
    Usage,
    WindowMessage,
    tenant_feed,
)
from parley_server.core.ports import MIB, NO_TRACER, Tracer
from parley_server.storage import rows
from parley_server.storage.driver.connection import Connection, Parameters, Row, Statement
from parley_server.storage.driver.connections import STORE_WAIT_S, Connections, StatementFailed
from parley_server.storage.driver.lookout import Lookout, Sight
from parley_server.storage.schema import row_security
from parley_server.storage.schema.reaching import UnsafeDatabase
from parley_server.storage.statements import sql
from parley_server.storage.windows import read_window

TITLE_CHARACTERS = 80
PREVIEW_CHARACTERS = 200
NO_UPPER_BOUND = 2**63 - 1
UNIQUE_VIOLATION = "23505"
NOTHING_SPENT = Usage(0, 0, 0, 0)


class PostgresStore:
    """Conversations in Postgres.

    Claims and reads share one set of connections; heartbeats, ends of turns and what is streamed
    have another, so that a queue of claims cannot cost anybody a lease (decision 0004).
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        lease_s: float,
        is_prepared: bool,
        has_row_security: bool = False,
        max_turns_per_minute: int | None = None,
        max_tokens_per_day: int | None = None,
        budgets: Callable[[], AgentBudgets] = lambda: NO_BUDGETS,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        wait_s: float = STORE_WAIT_S,
        owner_share: float = 1,
        has_feed: bool = True,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Make the store.

        Args:
            budgets: what an owner's turns with each agent may use a day, as it is at a claim.
            has_feed: whether it is written down in the feed that turns end.
            wait_s: how long a statement waits for the database, if its call's deadline allows it.
            owner_share: how much of each set of connections one owner may have at once.
        """
        ending = max(1, pool_size // 3)
        connections = partial(
            Connections,
            url,
            lease_s=lease_s,
            is_prepared=is_prepared,
            has_row_security=has_row_security,
            wait_s=wait_s,
            owner_share=owner_share,
            tracer=tracer,
        )
        self.url = url
        self.on_queue: Callable[[Owner, UUID], None] = lambda _owner, _conversation: None
        """Called when a conversation is free in which started turns wait."""
        self._lease = timedelta(seconds=lease_s)
        self.max_turns = max_turns_per_minute
        self.max_tokens = max_tokens_per_day
        self._budgets = budgets
        self._max_attempts = max_attempts
        self._has_row_security = has_row_security
        self._has_feed = has_feed
        self.claiming = connections(name="claims", size=max(1, pool_size - ending))
        self.ending = connections(name="ends", size=ending)
        self._lookout = Lookout(self.ending.connecting, [self.claiming.pool, self.ending.pool])

    async def open(self) -> None:
        await self.claiming.open()
        await self.ending.open()

    async def close(self) -> None:
        await self._lookout.close()
        await self.claiming.close()
        await self.ending.close()

    def pools(self) -> dict[str, Connections]:
        """Return the sets of connections, by name."""
        return {"claims": self.claiming, "ends": self.ending}

    async def look(self) -> Sight:
        """Look how the database is, and have connections leave that do not lead to it any more.

        Raises: StoreUnavailable; UnsafeDatabase: the policies of row security are not as this
            worker's setting says.
        Guarantees: from then until a look finds them so again, claims and reads raise
            StoreUnavailable. Turns that are open may end.
        """
        sight = await self._lookout.look()
        try:
            row_security.check_look(sight.policies, is_on=self._has_row_security)
        except UnsafeDatabase:
            self.claiming.is_refusing = True
            raise
        self.claiming.is_refusing = False
        return sight

    def feed_of(self, owner: Owner) -> UUID | None:
        """Return the feed of an owner's tenant; None: no feed is kept."""
        return tenant_feed(owner.tenant) if self._has_feed else None

    # Turns

    async def claim(self, owner: Owner, new: NewTurn) -> Lease | Turn:
        while True:
            try:
                lease, held, limited = await self._try_claim(owner, new)
            except StatementFailed as error:
                if error.sqlstate != UNIQUE_VIOLATION:
                    raise
                # The turn's id is there: an earlier try was carried out after all.
                raise StoreOutcomeUnknown from None
            if lease is not None:
                return lease
            # Another turn has the request id, or the conversation is busy. Checked in this order.
            if new.request_id is not None:
                known = await self.find(owner, new.request_id)
                if known is not None:
                    return known
                await self.check_not_deleted(owner, new.request_id)
            try:
                await self._refuse(owner, new, held)
            except TurnInProgress as busy:
                busy.limit = self.reached(limited)
                raise
            self.refuse_limited(limited)
            # What stood in the way is gone again: another claim under this request id was undone.

    async def _refuse(self, owner: Owner, new: NewTurn, held: rows.ClaimRow | None) -> None:
        """Raise why a turn could not be claimed, from its conversation's row as it was locked."""
        if held is None:
            if not new.is_new_conversation:
                raise ConversationNotFound(new.conversation_id)
            if new.expected_sequence:
                raise SequenceMismatch(last_sequence=0)
            return
        if new.expected_sequence not in (None, held.last_sequence):
            raise SequenceMismatch(held.last_sequence)
        await refuse_busy(self.claiming, owner, new.conversation_id, held)

    def is_limited(self, new: NewTurn) -> bool:
        """Whether the statement that opens this turn has to look at an owner's limits."""
        if self.max_turns is not None or self.max_tokens is not None:
            return True
        is_new = new.is_new_conversation
        return self._budgets().may_hold(new.agent, is_new_conversation=is_new)

    def limits(self) -> Parameters:
        """Return what statements that open turns take for an owner's limits."""
        default, of_agents = self._budgets()
        return {
            "max_turns": self.max_turns,
            "max_tokens": self.max_tokens,
            "default_agent": default,
            "agent_budgets": json.dumps(of_agents) if of_agents else None,
        }

    def refuse_limited(self, limited: rows.Limited) -> None:
        """Raise which limit the owner has reached, if any."""
        if (limit := self.reached(limited)) is not None:
            raise limit

    def reached(self, limited: rows.Limited) -> BudgetExhausted | TurnLimitReached | None:
        """Return which limit the owner has reached, the one that lasts longer first."""
        day_left_s = limited.day_left.total_seconds() if limited.day_left else 0
        if limited.used_tokens is not None and self.max_tokens is not None:
            return BudgetExhausted(self.max_tokens, limited.used_tokens, day_left_s)
        if limited.agent_used_tokens is not None and limited.agent_max_tokens is not None:
            used, most = limited.agent_used_tokens, limited.agent_max_tokens
            return BudgetExhausted(most, used, day_left_s, limited.agent or "")
        if limited.wait is not None and self.max_turns is not None:
            return TurnLimitReached(self.max_turns, limited.wait.total_seconds())
        return None

    async def check_not_deleted(self, owner: Owner, request_id: str) -> None:
        """Raise ConversationNotFound if a request id was one of a conversation that is deleted."""
        found = await self.claiming.repeat(
            sql.DELETED_BY_REQUEST, {"owner": owner.id, "request": request_id}
        )
        if found:
            raise ConversationNotFound(found[0][0])

    async def _try_claim(
        self, owner: Owner, new: NewTurn
    ) -> tuple[Lease | None, rows.ClaimRow | None, rows.Limited]:
        """Try to claim.

        Returns: the lease; or the conversation's row as it was found, if any, and which limits the
            owner has reached.
        """
        is_limited = self.is_limited(new)
        no_limit = rows.Limited()
        parameters: Parameters = {
            "owner": owner.id,
            "conversation": new.conversation_id,
            "turn": new.id,
            "request": new.request_id,
            "fingerprint": new.fingerprint,
            "agent": new.agent,
            "content": new.message,
            "title": new.message[:TITLE_CHARACTERS],
            "preview": new.message[:PREVIEW_CHARACTERS],
            "lease": self._lease,
            **self.limits(),
            "feed": self.feed_of(owner),
        }
        conversation = {"tenant": owner.tenant, "user": owner.user, "title": parameters["title"]}
        if new.is_new_conversation:
            if new.expected_sequence:
                return None, None, no_limit
            statement = sql.CLAIM_NEW_LIMITED if is_limited else sql.CLAIM_NEW
            found = await self.claiming.run(statement, {**parameters, **conversation})
            if found and found[0][0] is not None:
                first = Lease(new.conversation_id, new.id, 1, 1, user_sequence=1, agent=new.agent)
                return first, None, no_limit
            return None, None, rows.Limited(*found[0][1:]) if is_limited else no_limit

        parameters["expected"] = new.expected_sequence
        statement = sql.CLAIM_LIMITED if is_limited else sql.CLAIM
        found = await self.claiming.run(statement, parameters)
        if not found and new.allow_missing:
            found = await self._claimed_under_new_id(owner, statement, parameters, conversation)
        columns = len(rows.ClaimRow._fields)
        if found and rows.ClaimRow(*found[0][:columns]).is_abandoned:
            instead = sql.CLAIM_ABANDONED_LIMITED if is_limited else sql.CLAIM_ABANDONED
            found = await self.claiming.run(instead, parameters)
        if not found:
            return None, None, no_limit
        held, limited = rows.ClaimRow(*found[0][:columns]), rows.Limited(*found[0][columns:])
        if held.user_sequence is None:
            return None, held, limited
        lease = Lease(
            new.conversation_id,
            new.id,
            attempt=1,
            fence=held.fence + 1,
            user_sequence=held.user_sequence,
            is_taken_over=held.open_turn_id is not None,
            instructions=held.instructions or "",
            agent=held.agent or "",
        )
        return lease, None, no_limit

    async def _claimed_under_new_id(
        self,
        owner: Owner,
        claim: Statement,
        parameters: Parameters,
        conversation: Parameters,
    ) -> list[Row]:
        """Make the conversation and claim it, both or neither.

        Of two at once, one creates; the other waits for it, and then claims what is there.
        """

        async def work(connection: Connection) -> list[Row]:
            found: list[Row] = []
            async with connection.transaction() as transaction:
                made = {"owner": owner.id, "conversation": parameters["conversation"]}
                await connection.run(sql.CREATE, {**made, **conversation})
                found = await connection.run(claim, parameters)
                if not found or found[0][0] is None:  # deleted, or busy
                    raise Rollback(transaction)
            return found

        return await self.claiming.with_connection(work, owner.id)

    async def reclaim(self, owner: Owner, turn: Turn) -> Lease | None:
        return await self._take_lease(sql.RECLAIM, owner, turn)

    async def take_over(self, owner: Owner, turn: Turn) -> Lease | None:
        return await self._take_lease(sql.TAKE_OVER, owner, turn)

    async def _take_lease(self, statement: Statement, owner: Owner, turn: Turn) -> Lease | None:
        parameters: Parameters = {
            **_turn_keys(owner, turn),
            "lease": self._lease,
            "max_attempts": self._max_attempts,
            "feed": self.feed_of(owner),
        }
        found = await self.claiming.run(statement, parameters)
        if not found:
            return None
        return rows.lease(found[0], turn)

    async def append(self, owner: Owner, lease: Lease, events: list[StoredEvent]) -> bool:
        parameters = {
            **_lease_keys(owner, lease),
            "attempt": lease.attempt,
            "events": rows.events_text(events),
        }
        return bool(await self.ending.repeat(sql.APPEND, parameters))

    async def store_step(self, owner: Owner, lease: Lease, step: Step) -> bool:
        parameters = {
            **_lease_keys(owner, lease),
            "number": step.number,
            "kind": step.kind.value,
            "body": step.body,
        }
        return bool(await self.ending.repeat(sql.STORE_STEP, parameters))

    async def steps(self, owner: Owner, turn_id: UUID) -> list[Step]:
        found = await self.claiming.repeat(sql.STEPS, {"owner": owner.id, "turn": turn_id})
        return [rows.step(row) for row in found]

    async def renew(self, owner: Owner, lease: Lease) -> bool | None:
        parameters = {**_lease_keys(owner, lease), "lease": self._lease}
        found = await self.ending.repeat(sql.RENEW, parameters)
        return found[0][0] if found else None

    async def finish(
        self,
        owner: Owner,
        lease: Lease,
        answer: Answer,
        context: Context,
        *,
        instructions_digest: bytes,
        has_more: bool,
        spent: Usage | None,
    ) -> int | None:
        is_cancelled = answer.finish_reason is FinishReason.CANCELLED
        statement = sql.FINISH_WITH_EVENTS if has_more else sql.FINISH
        found = await self.ending.repeat(
            sql.FINISH_STARTED if lease.is_started else statement,
            {
                **_lease_keys(owner, lease),
                "state": (TurnState.CANCELLED if is_cancelled else TurnState.COMPLETED).value,
                "content": answer.text,
                "preview": answer.text[:PREVIEW_CHARACTERS],
                "tool_calls": rows.tool_calls_text(answer.tool_calls),
                "usage": rows.usage_text(answer.usage),
                "model": answer.model,
                "finish_reason": answer.finish_reason.value,
                "opaque_state": answer.opaque_state,
                "context_first": context.first_sequence,
                "context_count": context.message_count,
                "context_omitted": context.omitted_count,
                "instructions_digest": instructions_digest,
                **(spent or NOTHING_SPENT)._asdict(),
                "feed": self.feed_of(owner),
            },
        )
        if not found:
            return None
        sequence, queue_length = found[0]
        self._note_queue(owner, lease, queue_length)
        return int(sequence)

    async def fail(
        self,
        owner: Owner,
        lease: Lease,
        reason: FailureReason,
        text: str,
        *,
        spent: Usage | None,
    ) -> Failing:
        parameters = {
            **_lease_keys(owner, lease),
            "reason": reason.value,
            "text": text,
            **(spent or NOTHING_SPENT)._asdict(),
            "feed": self.feed_of(owner),
        }
        statement = sql.FAIL
        if lease.is_started:
            statement = sql.FAIL_FOR_NOW if reason in RUN_AGAIN else sql.FAIL_STARTED
        found = await self.ending.repeat(statement, parameters)
        if not found:
            return Failing.LEASE_LOST
        is_to_stop, queue_length = found[0]
        if is_to_stop:
            return Failing.CANCEL_REQUESTED
        self._note_queue(owner, lease, queue_length)
        return Failing.FAILED

    def _note_queue(self, owner: Owner, lease: Lease, queue_length: int) -> None:
        """Tell of started turns that waited for this one, unless the statement has seen to them."""
        if queue_length and not lease.is_started:
            self.on_queue(owner, lease.conversation_id)

    async def forget_events(self, owner: Owner, lease: Lease) -> None:
        await self.ending.repeat(
            sql.FORGET_EVENTS,
            {
                "owner": owner.id,
                "conversation": lease.conversation_id,
                "began_at": lease.user_sequence - 1,
            },
        )

    async def request_cancel(self, owner: Owner, turn: Turn) -> None:
        parameters = {"owner": owner.id, "turn": turn.id}
        await self.ending.repeat(sql.REQUEST_CANCEL, parameters)

    async def cancel_queued(self, owner: Owner, turn: Turn) -> None:
        parameters = {**_turn_keys(owner, turn), "feed": self.feed_of(owner)}
        await self.ending.repeat(sql.CANCEL_QUEUED, parameters)

    # Reads

    async def find(
        self, owner: Owner, request_id: str, *, may_be_behind: bool = False
    ) -> Turn | None:
        parameters = {"owner": owner.id, "request": request_id}
        return await self._turn(sql.TURN_BY_REQUEST, parameters, may_be_behind)

    async def turn(
        self, owner: Owner, conversation_id: UUID, turn_id: UUID, *, may_be_behind: bool = False
    ) -> Turn | None:
        parameters = {"owner": owner.id, "conversation": conversation_id, "turn": turn_id}
        return await self._turn(sql.TURN_BY_ID, parameters, may_be_behind)

    def _reading(
        self, may_be_behind: bool
    ) -> Callable[[Statement, Parameters], Awaitable[list[Row]]]:
        """Return what runs a read: on a standby as well, or where it is certain."""
        return self.claiming.read if may_be_behind else self.claiming.repeat

    async def _turn(
        self, statement: Statement, parameters: Parameters, may_be_behind: bool
    ) -> Turn | None:
        found = await self._reading(may_be_behind)(statement, parameters)
        return rows.turn(found[0], self._max_attempts) if found else None

    async def turns_since(
        self, owner: Owner, conversation_id: UUID, user_sequence: int, *, limit: int
    ) -> list[Turn]:
        found = await self.claiming.read(
            sql.TURNS_SINCE,
            {
                "owner": owner.id,
                "conversation": conversation_id,
                "since": user_sequence,
                "limit": limit,
            },
        )
        return [rows.turn(row, self._max_attempts) for row in found]

    async def events(
        self,
        owner: Owner,
        turn_id: UUID,
        attempt: int,
        after_index: int,
        *,
        limit: int = 1000,
        max_bytes: int = MIB,
        may_be_behind: bool = False,
    ) -> list[StoredEvent]:
        found = await self._reading(may_be_behind)(
            sql.EVENTS,
            {
                "owner": owner.id,
                "turn": turn_id,
                "attempt": attempt,
                "after_index": after_index,
                "limit": limit,
                "max_bytes": max_bytes,
            },
        )
        return [rows.stored_event(row) for row in found]

    async def standing(
        self, owner: Owner, conversation_id: UUID, *, may_be_behind: bool = False
    ) -> ConversationState | None:
        found = await self._reading(may_be_behind)(
            sql.STANDING, {"owner": owner.id, "conversation": conversation_id}
        )
        return ConversationState(*found[0]) if found else None

    async def window(
        self, owner: Owner, lease: Lease, *, max_messages: int, max_bytes: int
    ) -> list[WindowMessage]:
        keys = {"owner": owner.id, "conversation": lease.conversation_id}
        return await read_window(
            lambda statement, part: self.claiming.repeat(statement, {**keys, **part}),
            before=lease.user_sequence,
            max_messages=max_messages,
            max_bytes=max_bytes,
        )

    async def history(self, owner: Owner, query: HistoryQuery) -> HistoryPage:
        below = NO_UPPER_BOUND if query.below is None else query.below
        found = await self.claiming.read(
            sql.HISTORY_NEWEST_FIRST if query.newest_first else sql.HISTORY_OLDEST_FIRST,
            {
                "owner": owner.id,
                "conversation": query.conversation_id,
                "above": query.above,
                "below": below,
                "limit": query.limit,
                "max_bytes": query.max_bytes,
            },
        )
        if not found:
            raise ConversationNotFound(query.conversation_id)
        last_sequence = found[0][0]
        messages = await rows.in_slices(
            [row[1:] for row in found if row[1] is not None], rows.message
        )
        if not messages:
            return HistoryPage([], has_more=False, last_sequence=last_sequence)
        # Sequences have no gaps, so the page's last one says whether anything is left behind it.
        reached = messages[-1].sequence
        end = query.above + 1 if query.newest_first else min(last_sequence, below - 1)
        return HistoryPage(messages, has_more=reached != end, last_sequence=last_sequence)


def _turn_keys(owner: Owner, turn: Turn) -> Parameters:
    return {"owner": owner.id, "conversation": turn.conversation_id, "turn": turn.id}


def _lease_keys(owner: Owner, lease: Lease) -> Parameters:
    return {
        "owner": owner.id,
        "conversation": lease.conversation_id,
        "turn": lease.turn_id,
        "fence": lease.fence,
    }


async def refuse_busy(
    connections: Connections,
    owner: Owner,
    conversation_id: UUID,
    held: rows.ClaimRow | rows.AdditionRow,
) -> None:
    """Raise TurnInProgress if a turn is open, or a started turn comes first.

    Args:
        held: the conversation's row as it was locked.
    """
    if held.is_free:
        return
    turn_id, lease_end_time = held.open_turn_id, held.lease_expires_at
    if turn_id is not None:
        length = held.queue_length if isinstance(held, rows.ClaimRow) else 0
        raise TurnInProgress(conversation_id, turn_id, held.update_time, lease_end_time, length)
    keys = {"owner": owner.id, "conversation": conversation_id}
    for first in await connections.repeat(sql.QUEUE_HEAD, keys):
        raise TurnInProgress(conversation_id, *first)
