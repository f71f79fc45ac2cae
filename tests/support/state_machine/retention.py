"""Rules of retention: time passes, and what has become too old is gone for good."""

from datetime import timedelta

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import rule

from parley_server.core.model import Owner
from support.databases import as_superuser
from support.state_machine.lives import Lives
from support.state_machine.turns import indices, workers
from support.state_machine.values import Conversation
from support.state_machine.world import AGE_DAYS, IDLE_DAYS

LONG_AGO = 10**6
"""Behind everything that has happened lately, in lists."""
_MOVED = """
UPDATE conversation SET create_time = least(create_time, now() - %(created)s),
    update_time = least(update_time, now() - %(idle)s)
WHERE owner_id = %(owner)s AND id = %(conversation)s;
UPDATE conversation_label SET update_time = conversation.update_time FROM conversation
WHERE conversation.owner_id = %(owner)s AND conversation_label.owner_id = %(owner)s
    AND id = conversation_id AND id = %(conversation)s;
-- What was made after an erasure stays after it.
UPDATE erasure SET start_time = start_time - %(long)s, hide_time = hide_time - %(long)s,
    end_time = end_time - %(long)s
WHERE owner_id = %(owner)s;
UPDATE owner SET look_time = 'epoch' WHERE owner_id = %(owner)s;
"""


class Retention(Lives):
    @rule(
        worker=workers,
        index=indices,
        days=st.sampled_from(
            [(0, IDLE_DAYS - 1), (0, IDLE_DAYS + 1), (AGE_DAYS - 1, 0), (AGE_DAYS + 1, 0)]
        ),
    )
    def days_pass(self, worker: int, index: int, days: tuple[int, int]) -> None:
        """A conversation becomes so many days old, or idle, and a worker looks at its owner."""
        known = [c for c in self.conversations() if not c.is_deleted]
        if not known or index % 3 == 0:
            return
        busy = [c for c in known if c.is_busy] if index % 2 else []
        found = (busy or known)[-1 - index % len(busy or known)]
        mine = [c for c in known if c.owner == found.owner]
        if any(len(c.holder.callers) > 1 for c in mine if c.holder is not None):
            return
        self._move(found, *days)
        expired = [c for c in mine if self._is_too_old(c)]

        async def look() -> None:
            await self.world.services[worker].worker.retention.work()
            for conversation in expired:
                await self._ends_all(conversation)
                conversation.is_expired = True
            await self._is_quiet()

        self.world.do(look())

    def _move(self, conversation: Conversation, age_days: int, idle_days: int) -> None:
        what = {
            "owner": Owner.of("", conversation.owner).id,
            "conversation": conversation.id,
            "created": timedelta(days=max(age_days, idle_days)),
            "idle": timedelta(days=idle_days),
            "long": timedelta(days=2 * AGE_DAYS),
        }
        with psycopg.connect(
            as_superuser(self.world.database_url), cursor_factory=psycopg.ClientCursor
        ) as connection:
            connection.execute(_MOVED, what)
        if idle_days > conversation.idle_days:
            conversation.activity = next(self.model.clock) - LONG_AGO * (1 + idle_days)
            conversation.idle_days = idle_days
        conversation.age_days = max(age_days, idle_days, conversation.age_days)

    @staticmethod
    def _is_too_old(conversation: Conversation) -> bool:
        """A turn that runs is left to end, and so are started turns that wait."""
        is_old = conversation.idle_days > IDLE_DAYS or conversation.age_days > AGE_DAYS
        return is_old and not conversation.is_busy
