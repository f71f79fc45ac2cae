"""What the client's README shows works."""

import asyncio
import re
import subprocess
import sys

from support.services import Service, a_token
from support.terminals import ROOT, environment


async def test_the_quick_start_runs_as_it_is(service: Service) -> None:
    readme = (ROOT / "clients" / "python" / "README.md").read_text("utf-8")
    found = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert found
    program = found[1].replace("Client(", f'Client("127.0.0.1:{service.port}", ', 1)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-"],
        input=program.encode(),
        capture_output=True,
        env=environment(PARLEY_TOKEN=a_token()),
        timeout=60,
        check=False,
    )
    assert b"" == done.stderr
    assert [
        "WHAT IS MY NAME?",
        "1 My name is Ada.",
        "2 MY NAME IS ADA.",
        "3 What is my name?",
        "4 WHAT IS MY NAME?",
    ] == done.stdout.decode().splitlines()
