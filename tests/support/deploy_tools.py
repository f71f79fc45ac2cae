"""Programs that `make deploy-tools` builds with Go, for tests of deploy/."""

import os
import re
from functools import cache
from pathlib import Path

import pytest

from support.envoys import ROOT


@cache
def built(name: str) -> Path:
    """Return the program that a variable of the Makefile names.

    Where it was not built, the test is skipped. CI has to have it.
    """
    variables = dict(re.findall(r"(?m)^(\w+) := (\S+)$", (ROOT / "Makefile").read_text()))
    path = ROOT / re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], variables[name])
    if not path.exists():
        assert not os.environ.get("PARLEY_CI"), f"CI needs {path}: run `make deploy-tools`"
        pytest.skip(f"needs {path.name}, which `make deploy-tools` builds with Go")
    return path
