"""The statements as they are sent, from the files beside this one.

What builds them is not imported to serve (decision 0023).
"""

import re
from pathlib import Path

from parley_server.storage.driver.connection import Statement

_HEADER = re.compile(r"-- :(\w+) (.+)")
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


def _read(name: str) -> Statement:
    """Return a statement with its parameters numbered, each with its type."""
    text = Path(__file__).with_name(f"{name}.sql").read_text()
    header, _, body = text.partition("\n\n")
    types = dict(_HEADER.findall(header))
    names = tuple(types)
    body = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}::{types[found[1]]}", body)
    return Statement(body.strip(), names)


ADOPT_FEED = _read("adopt_feed")
APPEND = _read("append")
CLAIM = _read("claim")
CLAIM_LIMITED = _read("claim_limited")
CLAIM_NEW = _read("claim_new")
CLAIM_NEW_LIMITED = _read("claim_new_limited")
CONVERSATIONS = _read("conversations")
CONVERSATIONS_BY_LABELS = _read("conversations_by_labels")
CREATE = _read("create")
CREATED = _read("created")
CREATE_CONVERSATION = _read("create_conversation")
CREATE_ONCE = _read("create_once")
DELETED_BY_REQUEST = _read("deleted_by_request")
DELETE_CONVERSATION = _read("delete_conversation")
DUE_DELETIONS = _read("due_deletions")
EVENTS = _read("events")
FAIL = _read("fail")
FED_TURNS = _read("fed_turns")
FEED_OF_OWNER = _read("feed_of_owner")
FEED_OF_TENANT = _read("feed_of_tenant")
FINISH = _read("finish")
FINISH_WITH_EVENTS = _read("finish_with_events")
FORGET = _read("forget")
FORGET_EVENTS = _read("forget_events")
GET_CONVERSATION = _read("get_conversation")
GET_USAGE = _read("get_usage")
HISTORY_NEWEST_FIRST = _read("history_newest_first")
HISTORY_OLDEST_FIRST = _read("history_oldest_first")
LOCK_CONVERSATION = _read("lock_conversation")
PURGE = _read("purge")
RECLAIM = _read("reclaim")
RELABEL = _read("relabel")
RENEW = _read("renew")
REQUEST_CANCEL = _read("request_cancel")
STANDING = _read("standing")
TAKE_OVER = _read("take_over")
TRIM_FEED = _read("trim_feed")
TURNS_SINCE = _read("turns_since")
TURN_BY_ID = _read("turn_by_id")
TURN_BY_REQUEST = _read("turn_by_request")
UNDELETE_CONVERSATION = _read("undelete_conversation")
UPDATE_CONVERSATION = _read("update_conversation")
WINDOW = _read("window")
