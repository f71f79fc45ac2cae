"""How calls of this worker wait for a conversation's open turn to end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from parley_server.core.bells import Bells
from parley_server.core.call import Call
from parley_server.core.errors import AgentTimeout, CallerLost, TurnInProgress, WorkerDrained
from parley_server.core.tasks import wait_any
from parley_server.core.turns.queues import Queues

T = TypeVar("T")


class Waiting:
    """The calls that wait: in a queue for each conversation, until this worker drains."""

    def __init__(self, bells: Bells) -> None:
        self._bells = bells
        self._queues = Queues()
        self._draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def queued(self) -> int:
        """How many calls queue up for a conversation's turn."""
        return self._queues.waiting

    def is_empty(self, topic: UUID) -> bool:
        """Whether no call waits for this conversation."""
        return self._queues.is_empty(topic)

    def drain(self) -> None:
        """Wake all waiters and refuse new ones."""
        if not self._draining.done():
            self._draining.set_result(None)

    def check_draining(self) -> None:
        """Raise WorkerDrained once this worker drains."""
        if self._draining.done():
            raise WorkerDrained

    async def in_turn(
        self,
        topic: UUID,
        call: Call,
        attempt: Callable[[], Awaitable[T]],
        too_late: Callable[[], Awaitable[T]],
    ) -> T:
        """Queue up behind the calls that wait already; the first of them tries.

        Args:
            attempt: what is tried, again and again while it raises TurnInProgress.
            too_late: what is done instead once the call has too little time left.
        Raises: what they raise, TurnInProgress also when the call's time is over; CallerLost,
            WorkerDrained.
        """
        async with self._queues.first(topic, call.gone) as is_first:
            while is_first:
                self.check_draining()
                if call.is_too_short:  # by now: it has waited
                    return await too_late()
                with self._bells.listen(topic) as bell:
                    try:
                        return await attempt()
                    except TurnInProgress as error:
                        if call.is_too_short:
                            raise
                        busy = error
                    try:
                        await self.wait(bell, call)
                    except AgentTimeout:  # it has waited for no agent of its own
                        raise busy from None
        raise CallerLost

    async def wait(
        self, bell: asyncio.Future[None], call: Call, *others: asyncio.Future[None]
    ) -> None:
        """Wait for the bell, something else, the next look, or the end of the call.

        Raises: CallerLost, AgentTimeout, WorkerDrained: the call is over.
        """
        look_s = min(self._bells.next_look_s(), max(0, call.time_left_s))
        await wait_any(bell, call.gone, self._draining, *others, timeout_s=look_s)
        if call.gone.done():
            raise CallerLost
        self.check_draining()
        if call.time_left_s <= 0:
            raise AgentTimeout
