"""What the service can have done: the core's use cases, put together by the worker."""

from dataclasses import dataclass

from parley_server.core.conversations.appending import Appending
from parley_server.core.conversations.changes import Conversations
from parley_server.core.conversations.export import Exports
from parley_server.core.owners.erasing import Erasing
from parley_server.core.owners.usage import UsageReads
from parley_server.core.reading import Reads
from parley_server.core.streams.feed import Feeds
from parley_server.core.streams.watches import Watches
from parley_server.core.turns.accepting import Accepting
from parley_server.core.turns.explaining import Explaining
from parley_server.core.turns.machine import Turns
from parley_server.core.turns.rehearsing import Rehearsals
from parley_server.core.turns.resuming import Resuming


@dataclass(frozen=True, slots=True)
class UseCases:
    """The core as the service sees it."""

    turns: Turns
    resuming: Resuming
    accepting: Accepting
    reads: Reads
    conversations: Conversations
    appending: Appending
    exports: Exports
    erasing: Erasing
    watches: Watches
    feeds: Feeds | None
    """None: this server keeps no feed of turns."""
    usage: UsageReads
    explaining: Explaining
    rehearsals: Rehearsals
