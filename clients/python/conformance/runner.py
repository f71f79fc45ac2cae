"""The Python clients' runner: plays the scenarios of `clients/conformance`, as its README says.

PARLEY_CONFORMANCE=/path/of/parameters.json python runner.py sync|async
"""

import json
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from bridged import BridgedClient
from playing import Failed, play

from parley_client import ParleyClient


def main(kind: str) -> None:
    parameters = json.loads(Path(os.environ["PARLEY_CONFORMANCE"]).read_text("utf-8"))

    @cache
    def client(name: str) -> Any:
        address, token = (parameters["clients"][name][key] for key in ("address", "token"))
        if kind == "async":
            return BridgedClient(address, token=token or None)
        return ParleyClient(address, token=token or None, credentials="plaintext")

    scenarios = json.loads(Path(parameters["scenarios"]).read_text("utf-8"))["scenarios"]
    for scenario in scenarios:
        began = time.monotonic()
        why = ""
        try:
            play(scenario, client)
        except Failed as failure:
            why = str(failure)
        ms = round((time.monotonic() - began) * 1000)
        line = {"name": scenario["name"], "ok": not why, "why": why, "ms": ms}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
