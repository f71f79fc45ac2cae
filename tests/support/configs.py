"""Config files of the command."""

from collections.abc import Callable
from pathlib import Path

import pytest

NOWHERE = "127.0.0.1:1"
Configure = Callable[[str], dict[str, str]]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Write the config file; return the variables that make the command read it."""

    def write(text: str) -> dict[str, str]:
        file = tmp_path / "config.toml"
        file.write_text(text)
        return {"PARLEY_CONFIG_FILE": str(file), "PARLEY_PROFILE": ""}

    return write
