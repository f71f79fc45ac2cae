"""What no key by itself can tell: names, files, variables, and what excludes each other.

The checks read the file as it is, before its values are known to be of the right types: all of its
problems are told at once. A value of a wrong type is none of theirs.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from parley_server.agents.file.problems import Wrong, nearest
from parley_server.agents.file.variables import filled

Raw = Mapping[str, Any]

_REMOTE = re.compile(r"a2a\+grpcs?://")
_MODEL = re.compile(r"local|echo(:.*)?|[a-z][a-z0-9_-]*(/[a-z0-9_-]+)?:.*\S.*|a2a\+grpcs?://\S+")
_KEYLESS = re.compile(r"(local|echo)(:|$)")
_OF_REMOTES = ("token", "ca_file", "cert_file", "key_file")
_OF_PROVIDERS = ("base_url", "api_key")
_OF_TOOLS = ("mcp", "tools")
_OF_OBJECTS = ("base_url", "api_key", "mcp", "tools")
"""What agents must say alike that are one Python object."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FILES = ("instructions_file", "ca_file", "cert_file", "key_file")
_SECRETS = ("api_key", "token")


def check(raw: Raw, folder: Path, environment: Mapping[str, str]) -> Iterator[Wrong]:
    """Yield what is wrong."""
    agents, servers = _tables(raw.get("agents")), _tables(raw.get("mcp"))
    yield from _default(raw, agents)
    yield from _one_of_a_kind(agents)
    for name, agent in agents.items():
        for wrong in _agent(agent, list(servers), folder, environment):
            yield Wrong(("agents", name, *wrong.path), wrong.text)
    for name, server in servers.items():
        for wrong in _server(server, folder, environment):
            yield Wrong(("mcp", name, *wrong.path), wrong.text)


def _tables(value: object) -> dict[str, Raw]:
    """Return the tables in a value by name."""
    items = value.items() if isinstance(value, dict) else ()
    return {name: table for name, table in items if isinstance(table, dict)}


def _default(raw: Raw, agents: Mapping[str, Raw]) -> Iterator[Wrong]:
    default = raw.get("default")
    if raw.get("agents") == {}:
        yield Wrong(("agents",), "has no agent: add a table such as [agents.shop] with a model")
    elif default is None and len(agents) > 1:
        first = next(iter(agents))
        text = f'is missing, and there are several agents: add default = "{first}" as first line'
        yield Wrong(("default",), text)
    elif isinstance(default, str) and agents and default not in agents:
        yield Wrong(("default",), f"names no agent of this file: {nearest(default, agents)}")


def _one_of_a_kind(agents: Mapping[str, Raw]) -> Iterator[Wrong]:
    """Yield which agents are one Python object, and say what it cannot be at once."""
    found: dict[str, tuple[str, list[Any]]] = {}
    for name, agent in agents.items():
        model, said = agent.get("model"), [agent.get(key) for key in _OF_OBJECTS]
        if isinstance(model, str) and model.startswith("python:"):
            first, of_first = found.setdefault(model, (name, said))
            if said != of_first:
                keys = f"{', '.join(_OF_OBJECTS[:-1])} and {_OF_OBJECTS[-1]}"
                text = f"is the agent of agents.{first}, too: give both the same {keys}"
                yield Wrong(("agents", name, "model"), text)


def _agent(
    agent: Raw, servers: list[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[Wrong]:
    yield from _model(agent)
    if "instructions" in agent and "instructions_file" in agent:
        yield Wrong(("instructions_file",), "is there beside instructions: remove one of the two")
    if "cert_file" in agent and "key_file" not in agent:
        yield Wrong(("cert_file",), "needs its key: add key_file")
    if "key_file" in agent and "cert_file" not in agent:
        yield Wrong(("key_file",), "needs its certificate: add cert_file")
    for key in _FILES:
        yield from _file(key, agent.get(key), folder)
    for key in _SECRETS:
        yield from _secret(key, agent.get(key), environment)
    yield from _url("base_url", agent.get("base_url"))
    names = agent.get("mcp")
    for number, name in enumerate(names if isinstance(names, list) else ()):
        if isinstance(name, str) and name not in servers:
            hint = nearest(name, servers) if servers else f"add a table [mcp.{_shown(name)}]"
            yield Wrong(("mcp", number), f"names no [mcp.…] table of this file: {hint}")


def _shown(name: str) -> str:
    return name if re.fullmatch(r"[a-z0-9._-]{1,63}", name) else "NAME"


def _model(agent: Raw) -> Iterator[Wrong]:
    model = agent.get("model")
    if not isinstance(model, str) or not model:
        return
    if not _MODEL.fullmatch(model):
        text = (
            "is no agent: use local, echo, PROVIDER:MODEL (for example openai:gpt-5-mini), "
            "python:MODULE:ATTRIBUTE or a2a+grpc://HOST:PORT"
        )
        yield Wrong(("model",), text)
        return
    is_remote = bool(_REMOTE.match(model))
    for key in _OF_REMOTES:
        if key in agent and not is_remote:
            yield Wrong((key,), "is for a model a2a+grpc://HOST:PORT alone: remove it")
    for key in _OF_PROVIDERS:
        if key in agent and (is_remote or _KEYLESS.match(model)):
            yield Wrong((key,), "is for models of a provider: remove it")
    for key in _OF_TOOLS:
        if agent.get(key) and is_remote:
            text = "is not for an agent on another server, which has its own tools: remove it"
            yield Wrong((key,), text)


def _file(key: str, value: object, folder: Path) -> Iterator[Wrong]:
    if not isinstance(value, str):
        return
    path = folder / value
    try:
        data = path.read_bytes()
    except OSError as error:
        why = (error.strerror or "cannot be read").lower()
        text = f"cannot be read ({why}): name a file, from the folder {folder} on"
        yield Wrong((key,), text)
        return
    except ValueError:  # a NUL
        yield Wrong((key,), "is no path: name a file")
        return
    try:
        data.decode()
    except UnicodeDecodeError:
        yield Wrong((key,), "is no text in UTF-8: save it as UTF-8")


def _secret(key: str, value: object, environment: Mapping[str, str]) -> Iterator[Wrong]:
    if not isinstance(value, str):
        return
    found = filled(value, environment)
    if not found.names and not found.complaints:
        text = f'holds a secret itself: put that into a variable, and write {key} = "$VARIABLE"'
        yield Wrong((key,), text)
    for complaint in found.complaints:
        yield Wrong((key,), complaint)
    if not found.value.isascii():  # it is sent in a header
        yield Wrong((key,), "has other characters than ASCII in its value: copy the secret again")


def _url(key: str, value: object) -> Iterator[Wrong]:
    if not isinstance(value, str):
        return
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not value.isprintable() or " " in value:
        text = "must be an http:// or https:// URL"
        if "$" in value:
            text += "; variables are for secrets alone: api_key, token, env and headers"
        yield Wrong((key,), text)
    elif "@" in parts.netloc:
        yield Wrong((key,), "holds a user name or password: send a secret in api_key or headers")


def _server(server: Raw, folder: Path, environment: Mapping[str, str]) -> Iterator[Wrong]:
    yield from _reached(server)
    yield from _url("url", server.get("url"))
    cwd = server.get("cwd")
    if isinstance(cwd, str) and ("\0" in cwd or not (folder / cwd).is_dir()):
        yield Wrong(("cwd",), f"is no folder: name one, from the folder {folder} on")
    for key, complaint_of in (("env", _variable), ("headers", _header)):
        values = server.get(key)
        for name, value in values.items() if isinstance(values, dict) else ():
            if not isinstance(value, str):
                continue
            found = filled(value, environment, has_lines=key == "env")
            for complaint in found.complaints or complaint_of(name, found.value):
                yield Wrong((key, name), complaint)


def _variable(name: str, value: str) -> Iterator[str]:
    """Yield why no program can be given a variable."""
    if not name or "=" in name or "\0" in name:
        yield "is no name of a variable: it has no = and no NUL"
    elif "\0" in value:
        yield "has a NUL character: remove it"


def _header(name: str, value: str) -> Iterator[str]:
    """Yield why a header cannot be sent. Source: RFC 9110, 5.1 and 5.5."""
    if not _HEADER_NAME.fullmatch(name):
        yield "is no name of a header: it has letters, digits and dashes, for example Authorization"
    elif not (value.isascii() and value.isprintable() and value == value.strip()):
        yield "must be printable ASCII, without line breaks or a space at an end"


def _reached(server: Raw) -> Iterator[Wrong]:
    """Yield what is wrong with how a server of tools is reached."""
    is_started, is_called = "command" in server, "url" in server
    if is_started and is_called:
        yield Wrong(("url",), "is there beside command: a server is started or reached, not both")
        return
    if not is_started and not is_called:
        text = 'needs command = ["PROGRAM", "ARGUMENT"] or url = "https://HOST/mcp"'
        yield Wrong((), text)
    command = server.get("command")
    if command == [] or (isinstance(command, list) and str(command[0]).strip() == ""):
        yield Wrong(("command",), 'is empty: name a program, for example ["uvx", "some-server"]')
    elif isinstance(command, list) and any("\0" in str(part) for part in command):
        yield Wrong(("command",), "has a NUL character: remove it")
    for key in ("env", "cwd"):
        if key in server and is_called:
            yield Wrong((key,), "is for a server with command: remove it")
    if "headers" in server and is_started:
        yield Wrong(("headers",), "is for a server with url: remove it")
