"""Clients that have been used when their process is forked, each in a process of its own."""

import asyncio
import subprocess
import sys
from textwrap import dedent

import pytest

from support.services import Service, a_token

PREPARED = """
import asyncio, faulthandler, os, sys, threading
from parley_client import AsyncParleyClient, ForkedProcess, ParleyClient

address, token = sys.argv[1:]
client = ParleyClient(address, token=token)

def said(who=None):
    try:
        return (who or client).chat("hello", timeout_s=10).response
    except ForkedProcess:
        return "ForkedProcess"

async def said_async(who):
    try:
        return (await who.chat("hello", timeout_s=10)).response
    except ForkedProcess:
        return "ForkedProcess"

def tell(who, what):
    os.write(1, f"{who} {what}\\n".encode())  # at once: others write as well

def in_child(say):
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(15, exit=True)
        tell("child", say())
        os._exit(0)
    return child

def end(child):
    tell("status", os.waitpid(child, 0)[1])
"""
ANSWERED = {"child HELLO", "parent HELLO", "status 0"}
TOLD = {"child ForkedProcess", "parent HELLO", "status 0"}

CASES = {
    "never used": (
        """
        child = in_child(said)
        tell("parent", said())
        end(child)
        """,
        ANSWERED,
    ),
    "idle": (
        """
        said()
        children = [in_child(said) for _ in range(3)]
        tell("parent", said())
        for child in children: end(child)
        """,
        ANSWERED,
    ),
    "idle, and another client in the child": (
        """
        said()
        child = in_child(lambda: said(ParleyClient(address, token=token)))
        tell("parent", said())
        end(child)
        """,
        ANSWERED,
    ),
    "closed in the child first": (
        """
        said()
        child = in_child(lambda: (client.close(), said())[1])
        tell("parent", said())
        end(child)
        """,
        ANSWERED,
    ),
    "in the middle of a stream": (
        """
        said()
        pieces = client.stream_text("hello", timeout_s=10)
        next(pieces)
        child = in_child(said)
        tell("parent", said())
        end(child)
        """,
        TOLD,
    ),
    "while threads call": (
        """
        said()
        over = threading.Event()
        def call():
            while not over.is_set(): said()
        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads: thread.start()
        child = in_child(said)
        tell("parent", said())
        end(child)
        over.set()
        """,
        TOLD,
    ),
    "asynchronous": (
        """
        async def both():
            client = AsyncParleyClient(address, token=token)
            await said_async(client)
            child = os.fork()
            if not child:
                faulthandler.dump_traceback_later(15, exit=True)
                tell("child", await said_async(client))
                os._exit(0)
            tell("parent", await said_async(client))
            end(child)
        asyncio.run(both())
        """,
        TOLD,
    ),
    "asynchronous, and another client in the child": (
        """
        async def both():
            client = AsyncParleyClient(address, token=token)
            await said_async(client)
            child = os.fork()
            if not child:
                faulthandler.dump_traceback_later(15, exit=True)
                client = AsyncParleyClient(address, token=token)
                tell("child", await said_async(client))
                os._exit(0)
            tell("parent", await said_async(client))
            end(child)
        asyncio.run(both())
        """,
        TOLD,
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_client_in_a_forked_process_answers_or_says_that_it_cannot(
    service: Service, case: str
) -> None:
    """Fails without `forks`: "while threads call" and the asynchronous ones hang beyond their
    deadlines, or end the process by a signal."""
    code, expected = CASES[case]
    address = f"127.0.0.1:{service.port}"
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", PREPARED + dedent(code), address, a_token()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert expected == set(done.stdout.splitlines()), done.stderr
