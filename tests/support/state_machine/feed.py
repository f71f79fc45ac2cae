"""The feed: what it tells is what the model saw end, in order, once each."""

from collections import defaultdict

from hypothesis.stateful import rule

from parley.v1 import conversation_pb2 as cpb
from support.services import reason_of
from support.state_machine.driver import Driver
from support.state_machine.turns import owners, workers
from support.state_machine.values import Conversation, End
from support.state_machine.world import now_and_then, soon


class Feed(Driver):
    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, dict[str, list[End]]] = defaultdict(lambda: defaultdict(list))
        """By owner and conversation, what one consumer was told that goes on from its cursors."""
        self.cursors: dict[str, str] = defaultdict(str)

    @rule(owner=owners, worker=workers)
    def watch(self, owner: str, worker: int) -> None:
        """The feed goes on behind the last cursor, on any worker, and tells nothing else."""
        owner = self._named(owner)
        self.world.do(self._consume(owner, worker))
        for conversation in self.conversations():
            if conversation.owner == owner and not conversation.was_deleted:
                told = self.told[owner][conversation.id]
                assert told == conversation.ends[: len(told)]

    async def _consume(self, owner: str, worker: int) -> None:
        told, self.cursors[owner] = await self._told(owner, worker, self.cursors[owner])
        for conversation_id, ends in told.items():
            self.told[owner][conversation_id] += ends

    async def _told(
        self, owner: str, worker: int, cursor: str = ""
    ) -> tuple[dict[str, list[End]], str]:
        """Read the feed until it says that all was told. Returns: by conversation; a cursor."""
        watch = self.world.services[worker].watch_turns(user=owner, after_cursor=cursor)
        told: dict[str, list[End]] = defaultdict(list)
        while not (update := await soon(watch.read())).HasField("progress"):
            turn = update.turn
            state = cpb.TurnState.Name(turn.state).removeprefix("TURN_STATE_")
            reason = reason_of(turn) if state == "FAILED" else ""
            told[turn.conversation_id].append(End(turn.turn_id, turn.attempt, state, reason))
        watch.cancel()
        return told, update.cursor

    async def feed_is_whole(self, owner: str, worker: int) -> None:
        """All is told from the beginning, and was to the consumer, once what goes on is over."""
        mine = [c for c in self.conversations() if c.owner == owner]
        there = {c.id: c.ends for c in mine if c.ends and not c.is_deleted}
        pause = now_and_then()
        while (told := (await self._told(owner, worker))[0]) != there:
            await pause(f"the feed tells {told}, not {there}")
        await self._consume(owner, worker)
        for conversation in mine:
            self._was_told(conversation)

    def _was_told(self, conversation: Conversation) -> None:
        """Fails where the consumer missed an end, or was told one twice or in another order."""
        told = self.told[conversation.owner][conversation.id]
        if not conversation.was_deleted:
            assert conversation.ends == told
        else:  # what it had not read yet when the conversation went, it was not told
            left = iter(conversation.ends)
            assert all(end in left for end in told), f"{told} is not in {conversation.ends}"
