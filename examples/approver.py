"""Approves or denies what turns wait for, by a rule. It can be killed at any moment.

    python examples/approver.py --limit 1000 --cursor-file approver.cursor

It follows the feed: every turn that begins to wait is told there, with the calls that wait. What it
decides goes to ResumeTurn, then the cursor is stored. Killed in between, it is told the same turn
again: a call that was decided is pending no more, and the same decision again counts once.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client import (
    CallNotPending,
    CursorExpired,
    DeadlineExceeded,
    Overloaded,
    ParleyClient,
    ParleyError,
    ResultAlreadyGiven,
    TurnNotFound,
    Unavailable,
)


def decide(call: parts.PendingCall, limit: int) -> pb.CallResult:
    """Return the decision about a call. It is the same each time: it depends on the call alone."""
    try:
        cents = json.loads(call.arguments)["cents"]
        is_fine = isinstance(cents, int) and 0 < cents <= limit
    except (ValueError, KeyError, TypeError):  # a model wrote them: they may be anything
        is_fine = False
    if not is_fine:
        reason = f"More than {limit} cents need a person."
        return pb.CallResult(call_key=call.call_key, denial=pb.Denial(reason=reason))
    # It holds for these arguments alone.
    approval = pb.Approval(arguments=call.arguments)
    return pb.CallResult(call_key=call.call_key, approval=approval)


def give(parley: ParleyClient, turn: parts.Turn, result: pb.CallResult) -> str:
    """Give a turn one decision, until it is stored. Returns: what came of it, as a word."""
    while True:
        try:
            parley.resume_turn(
                [result],
                conversation_id=turn.conversation_id,
                turn_id=turn.turn_id,
                on_disconnect="continue",  # the turn goes on, whatever happens to this program
            )
        except (ResultAlreadyGiven, CallNotPending, TurnNotFound) as error:
            return error.reason.lower()  # somebody else has decided, or the turn is over
        except (DeadlineExceeded, Overloaded, Unavailable):
            time.sleep(1)  # the same decision again does no harm
        except ParleyError as error:
            if is_pending(parley, turn, result.call_key):
                raise  # such as for a token that has expired: the cursor stays before this turn
            # The turn went on and failed. Its caller runs it again, with the decision.
            return error.reason.lower()
        else:
            return result.WhichOneof("outcome") or ""


def is_pending(parley: ParleyClient, turn: parts.Turn, call_key: str) -> bool:
    """Say whether a call still waits for its decision."""
    now = parley.turn(conversation_id=turn.conversation_id, turn_id=turn.turn_id)
    return call_key in [call.call_key for call in now.pending_calls]


def follow(parley: ParleyClient, limit: int, cursor_file: Path) -> None:
    """Decide about every turn that waits: those since the cursor, then live."""
    cursor = cursor_file.read_text().strip() if cursor_file.exists() else ""
    for update in parley.watch_turns(after_cursor=cursor):
        for call in update.turn.pending_calls:
            if call.kind == parts.PENDING_CALL_KIND_APPROVAL:
                outcome = give(parley, update.turn, decide(call, limit))
                print(outcome, call.call_key, call.name, call.arguments, flush=True)
        store(cursor_file, update.cursor)


def store(path: Path, cursor: str) -> None:
    """Store the cursor: whoever reads the file, finds the old one or the new one."""
    draft = path.with_name(f".{path.name}.new")
    with draft.open("w") as file:
        file.write(cursor)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def main() -> None:
    """Follow the feed for good."""
    parser = argparse.ArgumentParser(description="Approves calls by a rule.")
    parser.add_argument("--limit", type=int, default=1000, help="approve up to so many cents")
    parser.add_argument("--cursor-file", type=Path, default=Path("approver.cursor"))
    arguments = parser.parse_args()
    address = os.environ.get("PARLEY_ADDRESS", "127.0.0.1:50051")
    with ParleyClient(address, token=os.environ["PARLEY_TOKEN"]) as parley:
        while True:
            try:
                follow(parley, arguments.limit, arguments.cursor_file)
            except CursorExpired:
                # Turns wait for a day, and are told for seven: none that waits is missed.
                arguments.cursor_file.unlink(missing_ok=True)
            except (DeadlineExceeded, Overloaded, Unavailable) as error:
                print(error, file=sys.stderr)
                time.sleep(1)


if __name__ == "__main__":
    main()
