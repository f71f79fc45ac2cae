"""A process that has closed its client ends, whatever gRPC's own thread is doing then."""

import asyncio
import subprocess
import sys

import pytest

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from support.scripted_server import Refusal, never
from support.scripted_streams import streaming
from support.services import a_token
from support.terminals import environment

TURN = pb.WatchTurnsResponse(turn=parts.Turn(), cursor="1")
PROGRESS = pb.WatchTurnsResponse(progress=pb.WatchTurnsProgress(), cursor="2")
DRAINED = Refusal(reason="WORKER_DRAINED", retry_s=0.01)

# gRPC's thread is as slow as on a busy machine with the last event of a call that was cancelled,
# which it handles with the call's lock in its hands.
SLOWLY = """
import sys, threading, time

def slow_down(frame, event, _argument):
    is_handler = event == "return" and frame.f_code.co_name == "_handle_event"
    if is_handler and frame.f_locals["state"].cancelled:
        print("slow", file=sys.stderr)
        time.sleep(1)

threading.setprofile(slow_down)
from parley_client.cli import main
main()
"""


@pytest.mark.slow
async def test_command_that_leaves_a_stream_ends() -> None:
    """Hangs when closing the client does not wait for gRPC's thread."""
    async with streaming([TURN, DRAINED], [PROGRESS, never]) as server:
        variables = environment(PARLEY_ADDRESS=server.address, PARLEY_TOKEN=a_token())
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", SLOWLY, "feed", "--once"],
            capture_output=True,
            env=variables,
            timeout=30,
            check=False,
        )
    assert (0, 2) == (done.returncode, len(server.asked))
    assert b"slow\n" == done.stderr  # once; gRPC's function still has this name
