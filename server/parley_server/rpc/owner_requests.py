"""Requests that concern an owner as a whole."""

import re
from datetime import UTC, date, datetime, timedelta

from parley.v1 import conversation_service_pb2 as pb
from parley_server.core.model import UsageQuery
from parley_server.rpc.conversation_requests import wanted_labels
from parley_server.rpc.violations import Violations

MAX_DAYS = 366

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def erasure(request: pb.EraseOwnerRequest) -> str:
    """Read which erasure is meant: its request id.

    Raises: InvalidRequest.
    """
    violations = Violations()
    request_id = violations.required_request_id(request.request_id)
    violations.raise_any()
    return request_id


def usage(request: pb.GetUsageRequest) -> UsageQuery:
    """Read a GetUsageRequest.

    Raises: InvalidRequest.
    """
    violations = Violations()
    first = _day("start_date", request.start_date, violations)
    last = _day("end_date", request.end_date, violations)
    if first is not None and (last is not None or not request.end_date):
        _check_order(first, last or _today(first), violations)
    if request.by_label:
        violations.label_key("by_label", request.by_label)
    labels = wanted_labels(request.labels, violations)
    violations.raise_any()
    return UsageQuery(first, last, request.by_agent, request.by_label or None, labels)


def _today(first: date) -> date:
    """Return the last day if none is asked for: the caller's clock may be ahead, at midnight."""
    today = datetime.now(UTC).date()
    return max(today, min(first, today + timedelta(days=1)))


def _day(field: str, text: str, violations: Violations) -> date | None:
    if not text:
        return None
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass  # as "2026-02-30"
    violations.add(field, "NOT_A_DATE", 'must be a date of the form "2026-11-28"')
    return None


def _check_order(first: date, last: date, violations: Violations) -> None:
    if first > last:
        violations.add(
            "start_date", "AFTER_END_DATE", f"must not be after the last day asked for, {last}"
        )
    elif (last - first).days > MAX_DAYS:
        violations.add(
            "start_date",
            "TOO_EARLY",
            f"must be at most {MAX_DAYS} days before the last day asked for, {last}",
        )
