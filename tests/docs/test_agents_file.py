"""What docs/agents.md, the schema and the example say of agents files is true."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from parley_server.agents.file.definitions import AgentTable, LimitsTable, Table
from parley_server.agents.file.reading import read_agents_file
from parley_server.process import agents_command
from support.processes import run

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "agents.md").read_text()
EXAMPLE = ROOT / "examples" / "agents.toml"
SCHEMA = ROOT / "docs" / "agents.schema.json"
ENVIRONMENT = {"OPENAI_API_KEY": "sk-any"}


def test_schema_is_up_to_date() -> None:
    assert agents_command.schema() + "\n" == SCHEMA.read_text(), "run `make gen`"


def test_schema_takes_the_example_and_refuses_what_the_server_refuses() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    validator.check_schema(validator.schema)
    example = tomllib.loads(EXAMPLE.read_text())

    validator.validate(example)
    wrong_ones: list[Any] = [
        {"agents": {"a": {"model": "echo", "modle": "x"}}},
        {"agents": {"a": {"model": "echo", "limits": {"seconds": 0}}}},
        {"agents": {"My Shop": {"model": "echo"}}},
        {"agents": {"a": {}}},
        {},
    ]
    for wrong in wrong_ones:
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(wrong)


def test_example_names_the_schema_beside_it() -> None:
    directive = EXAMPLE.read_text().splitlines()[0].removeprefix("#:schema ")

    assert SCHEMA == (EXAMPLE.parent / directive).resolve()


@pytest.mark.slow
def test_example_is_checked_and_listed_by_the_command() -> None:
    done = run("agents", str(EXAMPLE), PYTHONPATH=str(ROOT / "examples"))

    assert (0, "") == (done.returncode, done.stderr)
    names = [line.split("  ")[0].strip() for line in done.stdout.splitlines()]
    assert ["name", "small (default)", "compatible", "stock", "counter", "echo"] == names
    assert "60 s, 8,192 bytes, 5 tool calls, 60 output tokens" in done.stdout


def test_file_in_the_guide_is_right(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    (tmp_path / "shop.md").write_text("Be kind.")
    (tmp_path / "agents.toml").write_text(block)

    found = read_agents_file(tmp_path / "agents.toml", ENVIRONMENT).definitions

    assert "Be kind." == found.agents["shop"].instructions


@pytest.mark.parametrize("table", [AgentTable, LimitsTable])
def test_guide_names_every_key(table: type[Table]) -> None:
    assert [] == [key for key in table.model_fields if f"`{key}`" not in DOCUMENT]
