"""What an editor shows of the clients: every method whole, in both of them."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from parley_client import AsyncParleyClient, ParleyClient

CLIENTS = (AsyncParleyClient, ParleyClient)
METHODS = [
    pytest.param(method, id=method.__qualname__)
    for client in CLIENTS
    for name, method in inspect.getmembers(client, inspect.isfunction)
    if not name.startswith("_") or name == "__init__"
]


def arguments_of(method: Callable[..., Any]) -> dict[str, str]:
    """Return what a method's docstring says of each argument."""
    lines = (inspect.getdoc(method) or "").partition("\nArgs:\n")[2].splitlines()
    said: dict[str, str] = {}
    name = ""
    for line in lines:
        if not line.startswith("    "):
            break
        if found := re.match(r"    (\w+): ", line):
            name = found[1]
        said[name] = said.get(name, "") + line.strip() + " "
    return said


@pytest.mark.parametrize("method", METHODS)
def test_docstring_names_every_argument_in_order(method: Callable[..., Any]) -> None:
    parameters = [name for name in inspect.signature(method).parameters if name != "self"]
    assert parameters == list(arguments_of(method))


@pytest.mark.parametrize("method", METHODS)
def test_docstring_sends_nobody_elsewhere(method: Callable[..., Any]) -> None:
    assert "as for" not in (inspect.getdoc(method) or "")


@pytest.mark.parametrize("client", CLIENTS)
def test_calls_that_make_turns_say_the_same_of_the_same_arguments(client: Any) -> None:
    chat, stream, text = map(arguments_of, (client.chat, client.stream, client.stream_text))
    assert text == {name: said for name, said in stream.items() if name != "tools"}
    assert chat == {name: said for name, said in stream.items() if name != "on_retry"}


def words_for_event_loops(client: type) -> Iterator[str]:
    for _, method in inspect.getmembers(client, inspect.isfunction):
        yield from re.findall(r"\b(?:a?sync\w*|await|event loop)\b", inspect.getdoc(method) or "")


def test_synchronous_client_says_nothing_of_event_loops() -> None:
    """Fails when a sentence that holds only with one is not replaced by what holds without."""
    assert [] == list(words_for_event_loops(ParleyClient))
    assert ["asynchronous"] == list(words_for_event_loops(AsyncParleyClient))  # a token function
