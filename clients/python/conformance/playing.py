"""Plays one scenario: its steps in order, and its background calls."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from calls import Result, make_call
from values import Variables, mismatch

STEP_S = 60.0
EVENTUALLY_S = 30.0
AGAIN_S = 0.1
ANSWERS = ("chat", "resume_turn")
"""Calls that tell nothing before they have ended."""

Clients = Callable[[str], Any]
"""Returns the client of a name."""


class Failed(Exception):
    """The scenario has failed; the text says why."""


class Calling:
    """A call under way in a separate thread."""

    def __init__(
        self, client: Any, step: Mapping[str, Any], arguments: Result, *, begins_at_once: bool
    ) -> None:
        self.client = client
        self.begun = threading.Event()
        self.ended = threading.Event()
        self._result: Result = {}
        self._defect: BaseException | None = None
        if begins_at_once:
            self.begun.set()

        def run() -> None:
            try:
                until = step.get("until", {})
                self._result = make_call(client, step["call"], arguments, until, self.begun.set)
            except BaseException as error:
                self._defect = error
            finally:
                self.ended.set()
                self.begun.set()

        threading.Thread(target=run, daemon=True).start()

    def result(self) -> Result:
        """Wait for the end. Raises: Failed: it did not come, or the client has a defect."""
        if not self.ended.wait(STEP_S):
            raise Failed(f"no end within {STEP_S:g} s")
        if self._defect is not None:
            raise Failed(f"the client raised {self._defect!r}")
        return self._result


def play(scenario: Mapping[str, Any], clients: Clients) -> None:
    """Play a scenario. Raises: Failed, with step and reason."""
    player = _Player(clients, Variables(scenario.get("let", {})))
    try:
        for number, step in enumerate(scenario["steps"], 1):
            try:
                player.take(step)
            except (Failed, KeyError) as error:
                what = step.get("call") or f"wait {step['wait']}"
                raise Failed(f"step {number} ({what}), {error.args[0]}") from error
    finally:
        player.close()


class _Player:
    def __init__(self, clients: Clients, variables: Variables) -> None:
        self._clients = clients
        self._variables = variables
        self._background: dict[str, Calling] = {}

    def take(self, step: Mapping[str, Any]) -> None:
        if "wait" in step:
            name = step["wait"]
            self._keep(name, self._background[name].result(), step)
        elif step.get("background"):
            calling = self._start(step)
            self._background[step["as"]] = calling
            if not calling.begun.wait(STEP_S):
                raise Failed(f"nothing came within {STEP_S:g} s")
        elif step.get("eventually"):
            self._keep(step.get("as"), self._call_until_expected(step), step)
        else:
            self._keep(step.get("as"), self._start(step).result(), step)

    def _start(self, step: Mapping[str, Any]) -> Calling:
        client = self._clients(step.get("client", "ada"))
        arguments = self._variables.resolve(step.get("with", {}))
        return Calling(client, step, arguments, begins_at_once=step["call"] in ANSWERS)

    def _call_until_expected(self, step: Mapping[str, Any]) -> Result:
        """Repeat a call until its result is as expected or time is up."""
        expected = self._variables.resolve(step["expect"])
        ends_at = time.monotonic() + EVENTUALLY_S
        while True:
            result = self._start(step).result()
            if not mismatch(result, expected) or time.monotonic() > ends_at:
                return result
            time.sleep(AGAIN_S)

    def _keep(self, name: str | None, result: Result, step: Mapping[str, Any]) -> None:
        if name:
            self._variables.set(name, result)
        expected = step.get("expect", {})
        error = result.get("error")
        if error and not any(path.split(".")[0] == "error" for path in expected):
            raise Failed(f"ended with {error['code']} {error['reason']}: {error['message']}")
        if wrong := mismatch(result, self._variables.resolve(expected)):
            raise Failed(wrong)

    def close(self) -> None:
        """End background calls: closing a client ends its calls; its next call connects again."""
        for calling in self._background.values():
            if not calling.ended.is_set():
                calling.client.close()
