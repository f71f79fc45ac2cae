"""Connections that the server retires, under plain generated stubs of other languages."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from support.processes import ServerProcess
from support.services import a_token

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PLAIN = Path(__file__).parent / "plain_stubs"
SERVICE_CONFIG = ROOT / "clients" / "python" / "parley_client" / "service_config.json"
SECONDS = 8


async def output_of(*command: str | Path, folder: Path = ROOT) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert 0 == process.returncode
    return out.decode()


async def node() -> list[str]:
    await output_of("make", "package", folder=ROOT / "clients" / "node")
    return ["node", str(PLAIN / "plain.mjs")]


async def java() -> list[str]:
    folder = ROOT / "clients" / "java"
    path = folder / "target" / "classpath"
    goals = ["compile", "dependency:build-classpath", f"-Dmdep.outputFile={path}"]
    await output_of("mvn", "-q", "-B", "-ntp", *goals, folder=folder)
    classes = os.pathsep.join([str(folder / "target" / "classes"), path.read_text()])
    return ["java", "-cp", classes, str(PLAIN / "Plain.java")]


@pytest.mark.parametrize("build", [node, java])
async def test_plain_stubs_outlive_their_connections(database_url: str, build: object) -> None:
    """Fails when a call that comes as its connection goes away ends as CANCELLED or INTERNAL."""
    tool = {"node": "node", "java": "mvn"}[build.__name__]  # type: ignore[attr-defined]
    if shutil.which(tool) is None:
        assert os.environ.get("PARLEY_CI") != "1", f"CI needs {tool}"
        pytest.skip(f"{tool} is not installed")
    command = await build()  # type: ignore[operator]
    with ServerProcess(database_url, agent="echo:1", grpc_connection_age_s=2) as server:
        arguments = [f"127.0.0.1:{server.port}", a_token("ada"), str(SECONDS), SERVICE_CONFIG]
        ends = json.loads(await output_of(*command, *arguments))
    print(f"{tool}: {ends}")

    assert set(ends) <= {"OK", "UNAVAILABLE"}
    assert ends["OK"] > 40 * SECONDS
