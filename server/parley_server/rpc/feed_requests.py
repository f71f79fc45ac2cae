"""Requests to watch turns."""

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.errors import InvalidPageToken
from parley_server.core.model import FeedQuestion, FeedScope
from parley_server.rpc import page_tokens
from parley_server.rpc.conversation_requests import wanted_labels
from parley_server.rpc.violations import Violations


def turns(request: pb.WatchTurnsRequest, scope: FeedScope, *, has_feed: bool) -> FeedQuestion:
    """Read a WatchTurnsRequest.

    Args:
        has_feed: whether this server keeps a feed.
    Raises: InvalidRequest; alone: InvalidPageToken.
    """
    violations = Violations()
    if not has_feed:
        violations.add(
            "after_cursor", "NO_FEED", "no cursor works: this server keeps no feed of turns"
        )
    labels = wanted_labels(request.labels, violations)
    after = None
    if request.after_cursor and has_feed:
        try:
            after = page_tokens.decode_feed(scope, request.after_cursor)
        except InvalidPageToken:
            violations.add_error(InvalidPageToken("after_cursor"))
    violations.raise_any()
    return FeedQuestion(scope, after, request.only_new, labels)
