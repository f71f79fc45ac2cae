"""Callers that go on until they are told to stop, to replace workers under.

    python deploy/trial/callers.py ADDRESS CA_FILE      with PARLEY_TOKEN; SIGTERM ends it

Each has a turn after the other, every one with a request id. In the end it is said how many were
answered, how many were lost, and how many of the answers are in the histories, once each.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from parley_client import AsyncParleyClient, ParleyError, tls

CALLERS = 4


async def call(client: AsyncParleyClient, name: str, stop: asyncio.Event) -> tuple[int, int, int]:
    """Have turns in one conversation. Returns: how many were answered, lost, and stored once."""
    answered, lost, conversation = [], 0, ""
    while not stop.is_set():
        message = f"{name}, turn {len(answered) + lost + 1}"
        try:
            answer = await client.chat(message, conversation_id=conversation, timeout_s=60)
        except ParleyError as error:
            lost += 1
            print(f"{message}: {error}", flush=True)
        else:
            conversation = answer.conversation_id
            answered.append(message)
    history = [m.content async for m in client.history(conversation)] if answered else []
    stored = Counter(history[::2])  # each message is followed by its answer
    return len(answered), lost, sum(stored[message] == 1 for message in answered)


async def main(address: str, ca_file: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    token = os.environ["PARLEY_TOKEN"]
    async with AsyncParleyClient(address, token=token, credentials=tls(ca_file)) as client:
        names = [f"caller {number + 1}" for number in range(CALLERS)]
        counts = await asyncio.gather(*(call(client, name, stop) for name in names))
    answered, lost, stored = (sum(column) for column in zip(*counts, strict=True))
    print(f"{answered} answered, {lost} lost, {stored} stored once")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
