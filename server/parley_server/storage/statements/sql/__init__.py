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


ADDED = _read("added")
ADD_MESSAGES = _read("add_messages")
ADOPT_DELETIONS = _read("adopt_deletions")
AGED_CONVERSATIONS = _read("aged_conversations")
APPEND = _read("append")
BEGIN_ERASURE = _read("begin_erasure")
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
DUE_OWNERS = _read("due_owners")
ERASE_CONVERSATIONS = _read("erase_conversations")
ERASE_MESSAGES = _read("erase_messages")
ERASURE = _read("erasure")
EVENTS = _read("events")
EXPORTED_CONVERSATIONS = _read("exported_conversations")
FAIL = _read("fail")
FINISH = _read("finish")
FINISH_ERASURE = _read("finish_erasure")
FINISH_WITH_EVENTS = _read("finish_with_events")
FORGET = _read("forget")
FORGET_EVENTS = _read("forget_events")
FORGET_OWNER = _read("forget_owner")
FORK = _read("fork")
GET_CONVERSATION = _read("get_conversation")
GET_USAGE = _read("get_usage")
HIDE_CONVERSATIONS = _read("hide_conversations")
HISTORY_NEWEST_FIRST = _read("history_newest_first")
HISTORY_OLDEST_FIRST = _read("history_oldest_first")
IDLE_CONVERSATIONS = _read("idle_conversations")
IS_SETTLED = _read("is_settled")
LOCK_CONVERSATION = _read("lock_conversation")
LOCK_CONVERSATIONS = _read("lock_conversations")
NOTE_HIDDEN = _read("note_hidden")
PURGE = _read("purge")
RECLAIM = _read("reclaim")
RELABEL = _read("relabel")
RENEW = _read("renew")
REQUEST_CANCEL = _read("request_cancel")
RUNNING_ERASURES = _read("running_erasures")
STANDING = _read("standing")
TAKE_OVER = _read("take_over")
TAKE_OWNER = _read("take_owner")
TO_HIDE = _read("to_hide")
TURNS_SINCE = _read("turns_since")
TURN_BY_ID = _read("turn_by_id")
TURN_BY_REQUEST = _read("turn_by_request")
UNDELETE_CONVERSATION = _read("undelete_conversation")
UPDATE_CONVERSATION = _read("update_conversation")
WINDOW = _read("window")
