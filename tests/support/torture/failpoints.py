"""`python -m support.torture.failpoints POINT serve`: a worker that kills itself (-9) at a point.

A point is a statement's name in lower case, or `agent`, and `before` or `after`: `finish:after` is
when the answer is stored and nobody has been told. It is passed once: the process is gone.
"""

import os
import signal
import sys
from collections.abc import AsyncGenerator
from typing import Any

from parley_server.agents.echo import EchoAgent
from parley_server.core.model import AgentRun, Finish
from parley_server.storage.driver.connection import Connection, Parameters, Row, Statement

STATEMENTS = ("claim_new", "claim", "finish", "accept_new", "begin", "finish_started")
"""Those that a turn is made of, if nothing goes wrong, and commit something."""
POINTS = tuple(f"{name}:{when}" for name in (*STATEMENTS, "agent") for when in ("before", "after"))


def die() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def set_up(point: str) -> None:
    """Change this process so that it dies at a point."""
    where, _, when = point.partition(":")
    if where == "agent":
        run_agent = EchoAgent.run

        async def run(self: EchoAgent, of: AgentRun) -> AsyncGenerator[Any, None]:
            if when == "before":
                die()
            async for event in run_agent(self, of):
                if isinstance(event, Finish):
                    die()
                yield event

        EchoAgent.run = run  # type: ignore[assignment, method-assign]
        return
    send = Connection.run

    async def send_or_die(
        self: Connection, statement: Statement, parameters: Parameters
    ) -> list[Row]:
        is_it = statement.name == where
        if is_it and when == "before":
            die()
        rows = await send(self, statement, parameters)
        if is_it:
            die()
        return rows

    Connection.run = send_or_die  # type: ignore[method-assign]


if __name__ == "__main__":
    set_up(sys.argv.pop(1))
    from parley_server.__main__ import main

    main()
