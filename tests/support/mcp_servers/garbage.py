"""A server over standard input and output that answers as MCP_SCRIPT says, a JSON object:

tools     the entries of its list of tools, as they are
pages     in the place of tools: the results of tools/list, by the cursor that is asked for
garbage   text that it writes before each message
results   by tool: the result, or {"bytes": N}, text of that length, or {"line": N}, a line of that
          length which is no message, or {"raw": TEXT}, a line in which ID and PID stand for the
          request's id and the process; \udc80 to \udcff are the bytes 80 to ff
calls     a file to which it writes the parameters of each call, a line each
ignores   methods that it never answers
stays     true: it goes on when its input closes, and does not end when it is told to
"""

import json
import os
import signal
import sys
import time
from typing import Any

SCRIPT = json.loads(os.environ["MCP_SCRIPT"])
VERSION = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "garbage", "version": "1"},
}


def say(line: str) -> None:
    sys.stdout.write(SCRIPT.get("garbage", "") + line + "\n")
    sys.stdout.flush()


def answer(request: dict[str, Any]) -> None:
    method = request["method"]
    if method in SCRIPT.get("ignores", []) or "id" not in request:
        return
    if method == "initialize":
        result: dict[str, Any] = VERSION
    elif method == "tools/list":
        pages = SCRIPT.get("pages") or {"": {"tools": SCRIPT["tools"]}}
        result = pages[(request.get("params") or {}).get("cursor", "")]
    elif method == "tools/call":
        if "calls" in SCRIPT:
            with open(SCRIPT["calls"], "a") as calls:
                calls.write(json.dumps(request["params"]) + "\n")
        result = SCRIPT["results"][request["params"]["name"]]
        if "line" in result:
            say("y" * result["line"])
            return
        if "raw" in result:
            line = result["raw"].replace("PID", str(os.getpid()))
            sys.stdout.buffer.write(
                line.replace("ID", str(request["id"])).encode(errors="surrogateescape") + b"\n"
            )
            sys.stdout.buffer.flush()
            return
        if "bytes" in result:
            result = {"content": [{"type": "text", "text": "x" * result["bytes"]}]}
    else:
        error = {"code": -32601, "message": "no such method"}
        say(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}))
        return
    say(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}))


def main() -> None:
    if SCRIPT.get("stays"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        answer(json.loads(line))
    while SCRIPT.get("stays"):
        time.sleep(1)


if __name__ == "__main__":
    main()
