"""What an installation of Parley has: the clients alone, the command with its libraries, types."""

import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from parley_client.cli import LIBRARIES

ROOT = Path(__file__).parents[3]
WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None  # importing it raises ModuleNotFoundError, as where it is missing
"""


def run_without(names: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that has all libraries but these."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names=names) + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_clients_need_no_library_of_the_command() -> None:
    """Fails when anything that `parley_client` imports imports one of them."""
    done = run_without(sorted(LIBRARIES), "import parley_client; print(parley_client.ParleyClient)")
    assert (0, "") == (done.returncode, done.stderr)
    assert "ParleyClient" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_command_without_a_library_says_how_to_install_it(name: str) -> None:
    done = run_without([name], "from parley_client.cli import main; main()")
    assert (1, "") == (done.returncode, done.stdout)
    assert f"parley: the command needs {name}, which is not installed" in done.stderr
    assert "pip install 'parley[cli]'" in done.stderr
    assert 1 == len(done.stderr.splitlines())


def test_command_that_asks_nothing_does_not_load_what_draws_the_prompt() -> None:
    """Fails when anything but the prompt imports it: a third of a command's start."""
    loaded = "import parley_client.cli.app; print('prompt_toolkit' in sys.modules)"
    assert "False" == run_without([], loaded).stdout.strip()


def test_command_without_another_library_says_which_one() -> None:
    done = run_without(["grpc"], "from parley_client.cli import main; main()")
    assert 1 == done.returncode
    assert "ModuleNotFoundError: import of grpc halted" in done.stderr


def test_extra_has_the_libraries_that_the_command_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extra = {
        name.replace("-py", "").replace("-", "_")
        for name in project["optional-dependencies"]["cli"]
    }
    assert LIBRARIES == extra


def test_wheel_ships_the_types_of_client_and_messages(tmp_path: Path) -> None:
    """Fails when a caller's type checker would take the messages for Any."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    [path] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        told = message_from_string(wheel.read(metadata).decode())
    assert {
        "parley/v1/py.typed",
        "parley/v1/conversation_pb2.pyi",
        "parley_client/py.typed",
    } < names
    base = {need for need in told.get_all("Requires-Dist", []) if "extra ==" not in need}
    assert {"googleapis-common-protos", "grpcio", "grpcio-status", "protobuf"} == base
