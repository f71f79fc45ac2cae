"""Serves a model file on loopback, by OpenAI's protocol: the program that `local_model` starts.

It is started by its path and imports nothing of Parley. What it needs comes in the environment
variable PARLEY_LOCAL_SERVER; its one line on standard output is `{"url": …}` or `{"error": …}`.
It lives until its standard input closes, and so never longer than the process at the other end.
"""

import json
import os
import signal
import sys
from typing import Any

SETTINGS = "PARLEY_LOCAL_SERVER"
ALIAS = "local"
SLOTS = 4
"""How many answers are under way at once; more wait."""
SLOT_TOKENS = 4096
"""What one of them may read and write."""
MAX_THREADS = 4
"""A model this small does not get faster with more."""


def main() -> None:
    # Ctrl-C, a service manager's SIGTERM and a closed terminal's SIGHUP reach the whole group: the
    # turns that a worker still finishes then need their model.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    settings = json.loads(os.environ.pop(SETTINGS))
    try:
        server = _serve(settings)
        _say({"url": server.listening_address})
    except Exception as error:
        _say({"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    sys.stdin.buffer.read()
    os._exit(0)  # an orderly end would wait for the answers under way


def _serve(settings: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {ALIAS}
    params.hostnames = ["127.0.0.1"]
    params.port = settings["port"]  # 0: any; of one that died: its own, which workers know
    params.api_keys = [settings["key"]]
    params.cors_origins = ""
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = 1  # nothing of what is said
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * SLOT_TOKENS
    params.n_predict = settings["max_answer_tokens"]
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = _threads()
    params.cpuparams_batch.n_threads = _threads()
    return xllamacpp.Server(params)


def _threads() -> int:
    """Return how many threads compute: one core is left to the database and the workers.

    The threads wait for each other many times a token, by spinning. With as many as there are
    cores, and those busy with something else, answers come a hundred times slower (decision 0007).
    """
    return max(1, min(MAX_THREADS, (os.cpu_count() or 1) - 1))


def _say(said: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
