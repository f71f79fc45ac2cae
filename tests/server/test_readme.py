"""The reference's tables of settings, against the settings that there are."""

import re
from pathlib import Path

import pytest

from parley_server.config import Settings

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
INTERNAL = {"PARLEY_WORKER_INDEX", "PARLEY_LOCAL_MODEL_URL", "PARLEY_LOCAL_MODEL_KEY"}
"""What a parent sets for its workers."""
MIB = 1024 * 1024


def documented() -> dict[str, str]:
    """Return each setting of the reference's tables with the default that they name."""
    table = REFERENCE.read_text("utf-8").split("\n## Settings\n")[1].split("\n## ")[0]
    found: dict[str, str] = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            names, defaults, _ = (cell.strip() for cell in line.strip("|").split(" | ", 2))
            known = re.findall(r"`([A-Z_0-9]+)`", names)
            each = defaults.split(", ") if defaults.count(", ") == len(known) - 1 else [defaults]
            found |= dict(zip(known, each * len(known), strict=False))
    return found


def fields() -> dict[str, object]:
    """Return each setting's variable with its default."""
    return {
        str(field.validation_alias or f"PARLEY_{name.upper()}"): field.default
        for name, field in Settings.model_fields.items()
    }


def test_every_setting_is_in_the_reference_and_no_other() -> None:
    assert fields().keys() - INTERNAL == documented().keys()


@pytest.mark.parametrize(
    ("name", "default"),
    [(n, d) for n, d in fields().items() if n not in INTERNAL and d not in (None, "")],
)
def test_default_in_the_reference_is_the_one_that_counts(name: str, default: object) -> None:
    text = documented()[name].strip("`").replace(",", "")
    if match := re.fullmatch(r"(\d+)(?: ([KM])iB)?", text):
        size = {"": 1, "K": 1024, "M": MIB}[match[2] or ""]
        assert default == int(match[1]) * size
    else:
        assert str(default) == text
