"""What callers give for pending calls, as the body of a GIVEN step."""

import hashlib
import json

from parley_server.core.model import Given, GivenKind


def given_body(given: Given) -> str:
    """Return what a GIVEN step holds, as JSON."""
    return json.dumps(given._asdict(), ensure_ascii=False, separators=(",", ":"))


def read_given(body: str) -> Given:
    """Return what a GIVEN step says.

    Raises: ValueError, KeyError, TypeError: it is no such body.
    """
    found = json.loads(body)
    return Given(found["call_key"], GivenKind(found["kind"]), found["text"])


def digest(given: Given) -> str:
    """Return what tells whether two calls give the same; it is kept once the rest has gone."""
    return hashlib.sha256(given_body(given).encode()).hexdigest()
