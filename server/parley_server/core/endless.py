"""Work in the background that goes on for as long as its worker."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from parley_server.core.failures import raised_at

log = logging.getLogger("parley.background")

PAUSE_S = 1.0
"""How long work rests that has failed."""


async def endless(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> NoReturn:
    """Do work that should not end until it is cancelled, and begin it again when it does.

    Nobody awaits such work, so that an error in it that was not foreseen would be noticed by what
    is no longer done.

    Args:
        name: of the work, for log lines.
    """
    while True:
        try:
            await work()
        except Exception as error:
            log.exception("%s failed", name, extra={"place": raised_at(error)})
        await asyncio.sleep(PAUSE_S)
