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


async def test_the_snippets_about_streams_run_as_they_are(service: Service) -> None:
    readme = (ROOT / "clients" / "python" / "README.md").read_text("utf-8")
    section = readme.partition("## Streams\n")[2].partition("\n## ")[0]
    snippets = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert 3 == len(snippets)
    first = await service.chat("Hello.", request_id="order-7")
    body = "".join(snippets).replace("update.message.content)", "update.message.content); break")
    program = (
        "import asyncio, os\nfrom parley_client import AsyncParleyClient\n"
        f"async def main(conversation_id={first.conversation_id!r}, order_id='order-7', seen=3):\n"
        f"  async with AsyncParleyClient('127.0.0.1:{service.port}', "
        "token=os.environ['PARLEY_TOKEN']) as parley:\n"
        + "".join(f"    {line}\n" for line in body.splitlines())
        + "    print(answer.response_sequence, turn.state)\nasyncio.run(main())\n"
    )
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
    assert "TELL ME MORE.4 TELL ME MORE.\n4 2\n" == done.stdout.decode()
