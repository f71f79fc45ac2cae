"""What the core asks of the world: a store for each subject, agents, tokens, signals, measuring."""

from parley_server.core.ports.agents import Agent, SteppingAgent
from parley_server.core.ports.conversations import (
    ConversationStore,
    DeletionStore,
    HistoryStore,
    NotAdded,
)
from parley_server.core.ports.explaining import ExplainStore
from parley_server.core.ports.feed import FeedStore, FeedUpkeep
from parley_server.core.ports.metering import NO_METER, Meter, NoMeter
from parley_server.core.ports.notifications import Signals
from parley_server.core.ports.owners import ErasureStore, RetentionStore, UsageStore
from parley_server.core.ports.queue import QueueStore
from parley_server.core.ports.tokens import TokenVerifier
from parley_server.core.ports.tracing import (
    NO_TRACER,
    NOTHING,
    AttemptSpan,
    CallSpan,
    NoSpan,
    NoTracer,
    Tracer,
)
from parley_server.core.ports.turns import MIB, Ids, Store
from parley_server.core.ports.waits import Looked, WaitStore

__all__ = [
    "MIB",
    "NOTHING",
    "NO_METER",
    "NO_TRACER",
    "Agent",
    "AttemptSpan",
    "CallSpan",
    "ConversationStore",
    "DeletionStore",
    "ErasureStore",
    "ExplainStore",
    "FeedStore",
    "FeedUpkeep",
    "HistoryStore",
    "Ids",
    "Looked",
    "Meter",
    "NoMeter",
    "NoSpan",
    "NoTracer",
    "NotAdded",
    "QueueStore",
    "RetentionStore",
    "Signals",
    "SteppingAgent",
    "Store",
    "TokenVerifier",
    "Tracer",
    "UsageStore",
    "WaitStore",
]
