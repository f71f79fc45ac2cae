"""Every statement Parley runs, built with SQLAlchemy and compiled once, when this module is loaded.

Three rules hold for all of them, learned under load from many connections (decision 0004):

- Whoever touches a conversation and a turn locks the conversation first, and tests conditions on
  the row it locked. A NOT EXISTS beside an UPDATE is re-checked with an old snapshot.
- Every part filters on the one owner, so that a sharded database sends it to one shard.
- Time is `now()`, the database's. A lease counts from its statement's start.
"""

from parley_server.storage.statements.appending import APPEND
from parley_server.storage.statements.ending import (
    FAIL,
    FINISH,
    FINISH_WITH_EVENTS,
    FORGET_EVENTS,
    RENEW,
    REQUEST_CANCEL,
)
from parley_server.storage.statements.opening import (
    CLAIM,
    CLAIM_LIMITED,
    CLAIM_NEW,
    CLAIM_NEW_LIMITED,
    CREATE,
    RECLAIM,
    TAKE_OVER,
)
from parley_server.storage.statements.parts import TURN_ABANDONED_TEXT
from parley_server.storage.statements.reading import (
    CONVERSATIONS,
    CONVERSATIONS_AFTER,
    EVENTS,
    HISTORY_NEWEST_FIRST,
    HISTORY_OLDEST_FIRST,
    STANDING,
    TURN_BY_ID,
    TURN_BY_REQUEST,
    TURNS_SINCE,
    WINDOW,
)

__all__ = [
    "APPEND",
    "CLAIM",
    "CLAIM_LIMITED",
    "CLAIM_NEW",
    "CLAIM_NEW_LIMITED",
    "CONVERSATIONS",
    "CONVERSATIONS_AFTER",
    "CREATE",
    "EVENTS",
    "FAIL",
    "FINISH",
    "FINISH_WITH_EVENTS",
    "FORGET_EVENTS",
    "HISTORY_NEWEST_FIRST",
    "HISTORY_OLDEST_FIRST",
    "RECLAIM",
    "RENEW",
    "REQUEST_CANCEL",
    "STANDING",
    "TAKE_OVER",
    "TURNS_SINCE",
    "TURN_ABANDONED_TEXT",
    "TURN_BY_ID",
    "TURN_BY_REQUEST",
    "WINDOW",
]
