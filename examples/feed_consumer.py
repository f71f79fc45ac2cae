"""Writes down how each turn ended, once. It can be killed at any moment.

    python examples/feed_consumer.py outcomes.db

What it writes and the cursor are stored in one transaction. So nothing is written twice and nothing
is left out: killed, it goes on behind the last turn that is in the table.
"""

import os
import sqlite3
import sys
import time

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import CursorExpired, Overloaded, ParleyClient, Unavailable

TABLES = """
    CREATE TABLE IF NOT EXISTS outcome (
        number INTEGER PRIMARY KEY, turn_id, attempt, state, conversation_id, request_id, told_at
    );
    CREATE TABLE IF NOT EXISTS seen (id INTEGER PRIMARY KEY CHECK (id = 1), cursor);
"""


def follow(parley: ParleyClient, db: sqlite3.Connection) -> None:
    """Write down what ended since the cursor, then what ends."""
    (cursor,) = db.execute("SELECT cursor FROM seen").fetchone() or ("",)
    for update in parley.watch_turns(after_cursor=cursor):
        with db:  # one transaction: both or none
            if update.HasField("turn") and update.turn.state != parts.TURN_STATE_WAITING:
                write(db, update)
            db.execute("REPLACE INTO seen VALUES (1, ?)", (update.cursor,))


def write(db: sqlite3.Connection, update: pb.WatchTurnsResponse) -> None:
    """Write one outcome. Put your own work here, as long as it is part of the transaction."""
    turn = update.turn
    state = parts.TurnState.Name(turn.state).removeprefix("TURN_STATE_")
    db.execute(
        "INSERT INTO outcome (turn_id, attempt, state, conversation_id, request_id, told_at)"
        " VALUES (?, ?, ?, ?, ?, datetime())",
        (turn.turn_id, turn.attempt, state, turn.conversation_id, turn.request_id),
    )


def main() -> None:
    """Follow the feed for good."""
    db = sqlite3.connect(sys.argv[1])
    db.executescript(TABLES)
    address = os.environ.get("PARLEY_ADDRESS", "127.0.0.1:50051")
    with ParleyClient(address, token=os.environ["PARLEY_TOKEN"]) as parley:
        while True:
            try:
                follow(parley, db)
            except CursorExpired as error:
                # It was away for more than seven days. Read what you need with ListConversations
                # and GetHistory, then remove the row of `seen` to begin with the oldest turn.
                sys.exit(f"turns before {error.oldest_time} may be missing: {error}")
            except (Overloaded, Unavailable) as error:
                print(error, file=sys.stderr)
                time.sleep(1)


if __name__ == "__main__":
    main()
