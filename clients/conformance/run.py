"""Plays the scenarios through every client.

    make conformance
    .venv/bin/python clients/conformance/run.py [--languages go,java] [--scenarios replay,scopes]

Prints a table, scenario by language. Ends with 0 if all that could be run has passed; with
PARLEY_CI=1 everything has to be run.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from failing import failing_servers
from languages import LANGUAGES, Language
from report import Outcome, exit_code, told
from serving import HERE, server
from tokens import tokens_of

BUILD_S = 900
RUN_S = 900


def main() -> int:
    arguments = _arguments()
    scenarios = _scenarios(arguments.scenarios)
    languages = _languages(arguments.languages)
    with tempfile.TemporaryDirectory(prefix="parley-conformance-") as name:
        folder = Path(name)
        chosen = folder / "scenarios.json"
        chosen.write_text(json.dumps({"version": 1, "scenarios": scenarios}), "utf-8")
        with server(folder) as address:
            outcomes = asyncio.run(_outcomes(languages, address, chosen, folder))
    names = [scenario["name"] for scenario in scenarios]
    print(told(names, outcomes), flush=True)
    return exit_code(names, outcomes, is_ci=os.environ.get("PARLEY_CI") == "1")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Play the scenarios through every client.")
    parser.add_argument("--languages", default="", help="with commas; all by default")
    parser.add_argument("--scenarios", default="", help="with commas; all by default")
    return parser.parse_args()


def _scenarios(wanted: str) -> list[dict[str, Any]]:
    known = json.loads((HERE / "scenarios.json").read_text("utf-8"))["scenarios"]
    names = _names(wanted, [scenario["name"] for scenario in known])
    return [scenario for scenario in known if scenario["name"] in names]


def _languages(wanted: str) -> list[Language]:
    names = _names(wanted, [language.name for language in LANGUAGES])
    return [language for language in LANGUAGES if language.name in names]


def _names(wanted: str, known: Sequence[str]) -> set[str]:
    """Return the names asked for; none asked for: all. Raises: SystemExit: one is not known."""
    names = {name for name in wanted.split(",") if name}
    if unknown := names.difference(known):
        raise SystemExit(f"there is no {', '.join(unknown)}; there are: {', '.join(known)}")
    return names or set(known)


async def _outcomes(
    languages: Sequence[Language], address: str, scenarios: Path, folder: Path
) -> list[Outcome]:
    """Play every language's scenarios at once: runners wait more than they compute."""

    async def one(language: Language) -> Outcome:
        async with failing_servers(address) as failing:
            parameters = folder / f"{language.name}.json"
            clients = _clients(language.name, address, failing)
            text = json.dumps({"scenarios": str(scenarios), "clients": clients})
            parameters.write_text(text, "utf-8")
            return await _outcome(language, parameters)

    return await asyncio.gather(*map(one, languages))


def _clients(language: str, address: str, failing: Mapping[str, str]) -> dict[str, dict[str, str]]:
    tokens = tokens_of(language)
    direct = {name: {"address": address, "token": token} for name, token in tokens.items()}
    failing_ones = {
        name: {"address": place, "token": tokens["ada"]} for name, place in failing.items()
    }
    cut = {"cut_exporter": {"address": failing["cuts_once"], "token": tokens["cut_exporter"]}}
    return direct | failing_ones | cut


async def _outcome(language: Language, parameters: Path) -> Outcome:
    skipped = language.missing()
    outcome = Outcome(language.name, skipped=skipped, is_excused=not language.exists)
    if skipped:
        return outcome
    print(f"{language.name} …", file=sys.stderr, flush=True)
    if language.build:
        code, output = await _run(language.build, language, parameters, BUILD_S)
        if code:
            outcome.broken = f"its build failed ({code}): {output[-2000:]}"
            return outcome
    code, output = await _run(language.run, language, parameters, RUN_S)
    outcome.read(output)
    if code:
        outcome.broken = f"its runner ended with {code}"
    return outcome


async def _run(
    command: Sequence[str], language: Language, parameters: Path, limit_s: float
) -> tuple[int | str, str]:
    """Run a command in a client's folder. Returns: its exit code, and its standard output."""
    build = parameters.with_suffix(".build")
    build.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(part.format(build=build) for part in command),
        cwd=language.path,
        env={**os.environ, "PARLEY_CONFORMANCE": str(parameters)},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    output = asyncio.ensure_future(process.stdout.read())
    try:
        code: int | str = await asyncio.wait_for(process.wait(), limit_s)
    except TimeoutError:
        code = f"no end within {limit_s:g} s"
    finally:
        if process.returncode is None:  # too late, or Ctrl-C
            os.killpg(process.pid, signal.SIGKILL)  # and all that it has started
    return code, (await output).decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())
