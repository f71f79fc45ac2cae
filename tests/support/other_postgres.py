"""With PARLEY_TEST_POSTGRES, the folder of another Postgres' programs, tests run on that one.

Everything that starts an embedded server then starts that one: standbys and moved ones as well.
"""

import os
import shlex
from pathlib import Path

import pytest

from parley_server.storage.embedded import postgres as embedded

_FOLDER = os.environ.get("PARLEY_TEST_POSTGRES")
_INITDB = shlex.split(
    "--username=postgres --auth-local=trust --auth-host=reject --no-instructions --encoding=UTF8 "
    "--locale=C"
)
"""Before version 17 there is no builtin locale; C sorts the same."""

WHEEL_ONLY = pytest.mark.skipif(
    bool(_FOLDER),
    reason="tests the wheel's programs or options, which PARLEY_TEST_POSTGRES replaces",
)


def pytest_configure(config: pytest.Config) -> None:
    replace_programs()


def replace_programs() -> None:
    """Have this process start the other Postgres, if one is named; a child calls it for itself."""
    folder = _FOLDER
    if not folder:
        return
    assert Path(folder, "postgres").exists(), f"{folder} has no postgres: run `make databases`"
    embedded._path_of = lambda program: str(Path(folder, program))  # noqa: SLF001 - tests only
    embedded._INITDB = _INITDB  # noqa: SLF001 - tests only
