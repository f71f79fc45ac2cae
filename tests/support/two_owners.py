"""Every statement, what it does something with, and two owners who have the same ids."""

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor, Connection

from parley_server.core.model import Owner
from parley_server.storage.driver.connection import Statement
from parley_server.storage.schema.row_security import OWNED_TABLES
from parley_server.storage.statements import sql

STATEMENTS: dict[str, Statement] = {
    name: value for name, value in vars(sql).items() if isinstance(value, Statement)
}

ADA = Owner.of("", "ada").id
OURS, THEIRS = uuid.UUID(int=1), uuid.UUID(int=2)
CONVERSATION, NEW_CONVERSATION = uuid.UUID(int=10), uuid.UUID(int=11)
TRASHED, DUE, FORGOTTEN, ERASED = (uuid.UUID(int=n) for n in range(12, 16))
"""Deleted conversations: one that can be brought back, one to be purged, one left as ids, and one
that an erasure has hidden."""
QUEUED, INTERRUPTED = uuid.UUID(int=16), uuid.UUID(int=17)
"""Conversations with a started turn: one that has not begun, one of which an attempt has ended."""
WAITED = uuid.UUID(int=18)
"""A conversation with a turn that waits for its caller, for too long by now."""
ENDED_TURN, OPEN_TURN, NEW_TURN = (
    uuid.UUID(f"0fffffff-ffff-7000-8000-00000000000{n}") for n in range(3)
)
"""As if made in the future: turns are counted by ids that are made as time goes by."""
QUEUED_TURN, FAILED_TURN, INTERRUPTED_TURN, WAITED_TURN = (uuid.UUID(int=30 + n) for n in range(4))
MAX_TURNS = 3
"""One more than each of the twins has opened, and fewer than both of them."""
MAX_TOKENS = 150
"""More than each of the twins has used today, and fewer than both of them."""
FENCE = 5


def with_names(statement: Statement) -> str:
    """Return a statement as psycopg's cursors take it."""
    text = statement.text.replace("%", "%%")
    return re.sub(r"\$(\d+)", lambda found: f"%({statement.names[int(found[1]) - 1]})s", text)


@pytest.fixture
def twins(database_url: str) -> Iterator[Connection[tuple[Any, ...]]]:
    """Two owners with conversations, turns, messages and events of the same ids.

    Every statement that forgets an owner somewhere finds two of what it looks for.
    """
    with psycopg.connect(database_url, cursor_factory=ClientCursor) as connection:
        store_twins(connection)
        yield connection
        connection.rollback()


def store_twins(connection: Connection[tuple[Any, ...]]) -> None:
    for owner in (OURS, THEIRS):
        what = {
            "owner": owner,
            "said": f"said by {owner.int}",
            "conversation": CONVERSATION,
            "open": OPEN_TURN,
            "ended": ENDED_TURN,
            "fence": FENCE,
            "queued": QUEUED,
            "waiting": QUEUED_TURN,
            "failed": FAILED_TURN,
            "interrupted": INTERRUPTED,
            "again": INTERRUPTED_TURN,
            "waited": WAITED,
            "waits": WAITED_TURN,
        }
        connection.execute(TWIN, what)
        for number, (identity, stage, is_due) in enumerate(DELETED):
            deleted = {"deleted": identity, "stage": stage, "is_due": is_due, "number": number}
            connection.execute(DELETED_TWIN, {**what, **deleted, "gone": OLD_TURNS[number]})


DELETED = (
    (TRASHED, "TRASHED", False),
    (DUE, "TRASHED", True),
    (FORGOTTEN, "TOMBSTONE", True),
    (ERASED, "ERASING", False),
)
OLD_TURNS = [uuid.UUID(int=20 + number) for number in range(len(DELETED))]
DELETED_TWIN = """
INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence, preview, fence,
    labels, update_time, delete_time, create_time)
VALUES (%(owner)s, %(deleted)s, '', 'u', %(said)s, 1, %(said)s, %(fence)s, '{"team": "blue"}',
    'epoch', now(), now() - CASE WHEN %(stage)s = 'ERASING' THEN interval '2 days' ELSE '0' END);
INSERT INTO deletion (owner_id, conversation_id, stage, due_time)
VALUES (%(owner)s, %(deleted)s, %(stage)s,
    now() + CASE WHEN %(is_due)s THEN interval '-1 minute' ELSE interval '1 hour' END);
INSERT INTO turn (owner_id, id, conversation_id, request_id, fingerprint, agent, state, attempt,
    user_sequence, create_time)
VALUES (%(owner)s, %(gone)s, %(deleted)s, 'gone ' || %(number)s, '', '', 'FAILED', 1, 1,
    now() - interval '1 day');
INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)
VALUES (%(owner)s, %(deleted)s, 1, %(gone)s, 'USER', %(said)s);
INSERT INTO turn_step (owner_id, turn_id, number, kind, body)
SELECT %(owner)s, %(gone)s, 1, 'RESPONSE', %(said)s WHERE %(stage)s <> 'TOMBSTONE';
"""


TWIN = """
INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence, preview, fence,
    open_turn_id, lease_expires_at, labels, instructions, agent, update_time, appended_sequence)
VALUES (%(owner)s, %(conversation)s, '', 'u', %(said)s, 3, %(said)s, %(fence)s, %(open)s,
    now() + interval '1 minute', '{"team": "blue"}', %(said)s, 'poet',
    now() - interval '1 minute', 2);
INSERT INTO conversation_label (owner_id, conversation_id, key, value, update_time)
VALUES (%(owner)s, %(conversation)s, 'team', 'blue', now() - interval '1 minute');
INSERT INTO creation (owner_id, request_id, fingerprint, conversation_id)
VALUES (%(owner)s, 'made', '', %(conversation)s);
INSERT INTO addition (owner_id, request_id, fingerprint, conversation_id, first_sequence,
    last_sequence)
VALUES (%(owner)s, 'added', '', %(conversation)s, 1, 2);
INSERT INTO owner (owner_id, look_time) VALUES (%(owner)s, now() - interval '1 day');
INSERT INTO erasure (owner_id, request_id, start_time, hide_time)
VALUES (%(owner)s, 'erasing', now() - interval '1 day', now());
INSERT INTO turn (owner_id, id, conversation_id, request_id, fingerprint, agent, state, attempt,
    user_sequence, response_sequence, create_time)
VALUES (%(owner)s, %(ended)s, %(conversation)s, 'ended', '', %(said)s, 'COMPLETED', 1, 1, 2, now()),
    (%(owner)s, %(open)s, %(conversation)s, 'open', '', %(said)s, 'RUNNING', 1, 3, NULL, now());
INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)
VALUES (%(owner)s, %(conversation)s, 1, %(ended)s, 'USER', %(said)s),
    (%(owner)s, %(conversation)s, 2, %(ended)s, 'ASSISTANT', %(said)s),
    (%(owner)s, %(conversation)s, 3, %(open)s, 'USER', %(said)s);
INSERT INTO usage_day (owner_id, day, agent, labels_digest, slot, labels, input_tokens,
    output_tokens, turns, attempts)
SELECT %(owner)s, (now() AT TIME ZONE 'UTC')::date, 'poet', md5(labels)::uuid, slot, labels,
    40, 10, 1, 1
FROM generate_series(1, 2) slot, LATERAL (SELECT '{"team": "blue"}' AS labels) label;
INSERT INTO turn_feed (owner_id, xid, turn_id, tenant, attempt)
VALUES (%(owner)s, 1, %(ended)s, %(owner)s, 1);
INSERT INTO turn_event (owner_id, turn_id, attempt, index, text)
VALUES (%(owner)s, %(open)s, 1, 0, %(said)s), (%(owner)s, %(open)s, 1, 1, %(said)s);
INSERT INTO turn_step (owner_id, turn_id, number, kind, body)
VALUES (%(owner)s, %(open)s, 1, 'RESPONSE', %(said)s);
INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence, preview, fence,
    queue_length, queue_number, update_time)
VALUES (%(owner)s, %(queued)s, '', 'u', '', 1, '', 1, 1, 1, now() - interval '2 minutes'),
    (%(owner)s, %(interrupted)s, '', 'u', '', 1, '', 1, 1, 1, now() - interval '3 minutes');
INSERT INTO turn (owner_id, id, conversation_id, request_id, fingerprint, agent, state, attempt,
    user_sequence, is_started, create_time)
VALUES (%(owner)s, %(failed)s, %(queued)s, 'failed', '', %(said)s, 'FAILED', 1, 1, false,
        now() - interval '1 day'),
    (%(owner)s, %(waiting)s, %(queued)s, 'waiting', '', %(said)s, 'QUEUED', 0, 0, true,
        now() - interval '1 day'),
    (%(owner)s, %(again)s, %(interrupted)s, 'again', '', %(said)s, 'QUEUED', 1, 1, true,
        now() - interval '1 day');
INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)
VALUES (%(owner)s, %(queued)s, 1, %(failed)s, 'USER', %(said)s),
    (%(owner)s, %(interrupted)s, 1, %(again)s, 'USER', %(said)s);
INSERT INTO turn_queue (owner_id, turn_id, conversation_id, position, message)
VALUES (%(owner)s, %(waiting)s, %(queued)s, 1, %(said)s),
    (%(owner)s, %(again)s, %(interrupted)s, 1, %(said)s);
INSERT INTO queue_due (owner_id, conversation_id, turns, due_time)
VALUES (%(owner)s, %(queued)s, 1, now() - interval '1 second'),
    (%(owner)s, %(interrupted)s, 1, now() - interval '1 second');
INSERT INTO conversation (owner_id, id, tenant_id, user_id, title, last_sequence, preview, fence,
    open_turn_id, update_time)
VALUES (%(owner)s, %(waited)s, '', 'u', '', 1, '', %(fence)s, %(waits)s,
    now() - interval '4 minutes');
INSERT INTO turn (owner_id, id, conversation_id, request_id, fingerprint, agent, state, attempt,
    user_sequence, is_counted, create_time)
VALUES (%(owner)s, %(waits)s, %(waited)s, 'waits', '', %(said)s, 'WAITING', 1, 1, true,
    now() - interval '1 day');
INSERT INTO message (owner_id, conversation_id, sequence, turn_id, role, content)
VALUES (%(owner)s, %(waited)s, 1, %(waits)s, 'USER', %(said)s);
INSERT INTO turn_step (owner_id, turn_id, number, kind, body)
VALUES (%(owner)s, %(waits)s, 1, 'RESPONSE', %(said)s);
INSERT INTO turn_event (owner_id, turn_id, attempt, index, text)
VALUES (%(owner)s, %(waits)s, 1, 0, %(said)s);
INSERT INTO turn_wait (owner_id, turn_id, digests, end_time, calls, content)
VALUES (%(owner)s, %(waits)s, '{}', now() - interval '1 second', '[]', %(said)s);
INSERT INTO wait_due (owner_id, turn_id, conversation_id, due_time)
VALUES (%(owner)s, %(waits)s, %(waited)s, now() - interval '1 second');
"""

PARAMETERS: dict[str, Any] = {
    "owner": OURS,
    "conversation": CONVERSATION,
    "turn": OPEN_TURN,
    "request": "new",
    "fingerprint": b"fingerprint",
    "agent": "",
    "content": "hello",
    "title": "hello",
    "preview": "hello",
    "tenant": "",
    "user": "ada",
    "expected": None,
    "lease": timedelta(seconds=30),
    "fence": FENCE,
    "state": "COMPLETED",
    "tool_calls": None,
    "usage": None,
    "model": "scripted",
    "finish_reason": "STOP",
    "opaque_state": b"{}",
    "context_first": 1,
    "context_count": 3,
    "context_omitted": 0,
    "instructions_digest": b"digest",
    "reason": "AGENT_TIMEOUT",
    "text": "too slow",
    "attempt": 1,
    "events": json.dumps([{"index": 2, "text": "more", "tool_call": None}]),
    "number": 2,
    "kind": "RESULT",
    "body": "{}",
    "after_index": -1,
    "began_at": 3,
    "since": 1,
    "above": 0,
    "below": 2**63 - 1,
    "before": 3,
    "lookback": 1000,
    "max_bytes_with_states": 2**20,
    "limit": 100,
    "max_bytes": 2**20,
    "max_turns": MAX_TURNS,
    "max_tokens": MAX_TOKENS,
    "default_agent": "poet",
    "agent_budgets": json.dumps({"poet": MAX_TOKENS}),
    "max_attempts": 5,
    "max_queued": 2,
    "title_characters": 80,
    "preview_characters": 200,
    "after_time": datetime.now(UTC) + timedelta(days=1),
    "after_id": uuid.UUID(int=2**128 - 1),
    "labels": json.dumps({"team": "blue"}),
    "updated_after": datetime.now(UTC) - timedelta(days=1),
    "instructions": "Be brief.",
    "sets_title": True,
    "sets_labels": True,
    "sets_instructions": True,
    "sets_agent": True,
    "trash": timedelta(days=1),
    "tombstone": timedelta(days=30),
    "input_tokens": 100,
    "output_tokens": 20,
    "cached_input_tokens": 5,
    "model_requests": 2,
    "first_day": None,
    "last_day": None,
    "by_agent": True,
    "by_label": "team",
    "source": CONVERSATION,
    "from_id": CONVERSATION,
    "count": 1,
    "latest": None,
    "messages": json.dumps(
        [{"number": 0, "turn_id": str(uuid.UUID(int=0)), "role": "USER", "content": "hello"}]
    ),
    "ids": json.dumps([str(CONVERSATION)]),
    "stage": "ERASING",
    "start": datetime.now(UTC) + timedelta(days=1),
    "up_to": uuid.UUID(int=2**128 - 1),
    "max_conversations": 100,
    "every": timedelta(hours=1),
    "age": timedelta(0),
    "until": datetime.now(UTC),
    "feed": OURS,
    "epoch": uuid.UUID(int=1),
    "after_xid": 0,
    "after_turn": uuid.UUID(int=0),
    "turns": json.dumps([str(ENDED_TURN), str(OPEN_TURN)]),
    "keep": timedelta(days=7),
    "waiting": timedelta(days=1),
    "calls": "[]",
    "tools": None,
    "known_digests": "{}",
    "digests": '{"call":"digest"}',
    "bodies": '["given"]',
    "why": "CANCELLED",
    "only_if_over": True,
}
"""What every statement does something with, as the twins stand."""
OTHERWISE: dict[str, dict[str, Any]] = {
    "ADOPT_DELETIONS": {"ids": json.dumps([str(TRASHED)])},
    "AGED_CONVERSATIONS": {"from_id": uuid.UUID(int=0)},
    "ACCEPT": {"turn": NEW_TURN},
    "ACCEPT_LIMITED": {"turn": NEW_TURN},
    "ACCEPT_NEW": {"turn": NEW_TURN, "conversation": NEW_CONVERSATION},
    "ACCEPT_NEW_LIMITED": {"turn": NEW_TURN, "conversation": NEW_CONVERSATION},
    "BEGIN": {"conversation": QUEUED},
    "CANCEL_QUEUED": {"conversation": QUEUED, "turn": QUEUED_TURN},
    "DUE_TURN": {"conversation": WAITED, "turn": WAITED_TURN},
    "END_WAIT": {"conversation": WAITED, "turn": WAITED_TURN},
    "FORGET_WAIT": {"conversation": WAITED, "turn": WAITED_TURN},
    "GIVE": {"conversation": WAITED, "turn": WAITED_TURN},
    "LOOK_AT_WAIT": {"conversation": WAITED, "turn": WAITED_TURN},
    "RESUME": {"conversation": WAITED, "turn": WAITED_TURN},
    "GIVE_UP": {"conversation": INTERRUPTED, "turn": INTERRUPTED_TURN},
    "QUEUE_HEAD": {"conversation": QUEUED},
    "REQUEUE": {"conversation": QUEUED, "turn": FAILED_TURN},
    "WAKE_QUEUE": {"conversation": QUEUED},
    "CLEAR_QUEUE": {"conversation": TRASHED},
    "CLAIM": {"turn": NEW_TURN},
    "CLAIM_ABANDONED": {"turn": NEW_TURN},
    "CLAIM_ABANDONED_LIMITED": {"turn": NEW_TURN},
    "CLAIM_LIMITED": {"turn": NEW_TURN},
    "CLAIM_NEW_LIMITED": {"turn": NEW_TURN, "conversation": NEW_CONVERSATION},
    "CLAIM_NEW": {"turn": NEW_TURN, "conversation": NEW_CONVERSATION},
    "ADDED": {"request": "added"},
    "CREATE": {"conversation": NEW_CONVERSATION},
    "CREATED": {"request": "made"},
    "CREATE_CONVERSATION": {"conversation": NEW_CONVERSATION},
    "DELETED_BY_REQUEST": {"request": "gone 0"},
    "FORK": {"conversation": NEW_CONVERSATION, "up_to": 2},
    "ERASE_CONVERSATIONS": {"request": "erasing"},
    "ERASE_MESSAGES": {"request": "erasing"},
    "ERASURE": {"request": "erasing"},
    "FINISH_ERASURE": {"request": "erasing"},
    "FORGET": {"conversation": FORGOTTEN},
    "NOTE_HIDDEN": {"request": "erasing"},
    "PURGE": {"conversation": DUE},
    "TO_HIDE": {"from_id": uuid.UUID(int=0)},
    "TURN_BY_REQUEST": {"request": "open"},
    "UNDELETE_CONVERSATION": {"conversation": TRASHED},
}
BACKGROUND = {
    "ADOPT_FEED",
    "BACKLOG",
    "DUE_DELETIONS",
    "DUE_OWNERS",
    "DUE_QUEUES",
    "DUE_WAITS",
    "FEED_OF_TENANT",
    "IS_SETTLED",
    "MOMENT",
    "RUNNING_ERASURES",
    "SETTLE_FEED",
    "TRIM_FEED",
}
"""Those that look for something to do, whoever's it is."""
_PASSED = "UPDATE conversation SET lease_expires_at = now()"
_CLOSED = "UPDATE conversation SET open_turn_id = NULL, lease_expires_at = NULL"
_BEFORE = {
    "ADD_MESSAGES": _PASSED,
    "AGED_CONVERSATIONS": _PASSED,
    "CLAIM": _CLOSED,
    "CLAIM_ABANDONED": _PASSED,
    "CLAIM_ABANDONED_LIMITED": _PASSED,
    "CLAIM_LIMITED": _CLOSED,
    "CLEAR_QUEUE": """INSERT INTO turn_queue (owner_id, turn_id, conversation_id, position, message)
        SELECT deletion.owner_id, turn.id, deletion.conversation_id, 1, 'said'
        FROM deletion JOIN turn USING (owner_id, conversation_id)""",
    "FORGET_OWNER": f"DELETE FROM conversation WHERE owner_id = '{OURS}'",
    "IDLE_CONVERSATIONS": _PASSED,
    "RECLAIM": _PASSED,
    "TAKE_OVER": _PASSED,
}
"""What has to happen, to the open turn as a rule, before a statement does something."""


def parameters(name: str) -> dict[str, Any]:
    return PARAMETERS | OTHERWISE.get(name, {})


def make_ready(connection: Connection[tuple[Any, ...]], name: str) -> None:
    """Do what has to be done before a statement does something."""
    if name in _BEFORE:
        connection.execute(_BEFORE[name])


def in_words(rows: list[tuple[Any, ...]]) -> list[str]:
    """Return rows as text. Times are all the same: two transactions have two."""
    return [str([_without_times(value) for value in row]) for row in rows]


def _without_times(value: Any) -> Any:
    if isinstance(value, datetime):
        return "a time"
    if isinstance(value, list):  # of attempts
        return [
            {k: v and "a time" if k.endswith("_time") else v for k, v in a.items()} for a in value
        ]
    return value


def rows_of(connection: Connection[tuple[Any, ...]], owner: uuid.UUID) -> dict[str, list[str]]:
    return {table: sorted(in_words(_rows_in(connection, table, owner))) for table in OWNED_TABLES}


def _rows_in(
    connection: Connection[tuple[Any, ...]], table: str, owner: uuid.UUID
) -> list[tuple[Any, ...]]:
    """Return an owner's rows of a table, but for the id of the transaction that wrote them."""
    cursor = connection.execute(
        f"SELECT * FROM {table} WHERE owner_id = %(owner)s", {"owner": owner}
    )
    names = [column.name for column in cursor.description or ()]
    return [
        tuple(value for name, value in zip(names, row, strict=True) if name != "xid")
        for row in cursor.fetchall()
    ]


def outcome(
    connection: Connection[tuple[Any, ...]], name: str, statement: Statement | None = None
) -> tuple[list[str], dict[str, list[str]], dict[str, list[str]]]:
    """Run a statement for us, or one in its place, and undo it.

    Returns: its rows, our rows then, and theirs.
    """
    with connection.transaction(force_rollback=True):
        make_ready(connection, name)
        cursor = connection.execute(with_names(statement or STATEMENTS[name]), parameters(name))
        found = in_words(cursor.fetchall()) if cursor.description else []
        return found, rows_of(connection, OURS), rows_of(connection, THEIRS)
