"""`PROVIDER:MODEL` becomes a model, or one sentence that says what is missing."""

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
from pydantic_ai.models import Model, create_async_httpx2_client, infer_model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles import DEFAULT_THINKING_TAGS, merge_profile
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from pydantic_ai.providers.openai import OpenAIProvider

from parley_server.agents.boundary import DEFAULT_TAGS, REASONING, Boundary
from parley_server.agents.errors import BadAgent
from parley_server.proxies import is_on_this_machine

OPENAI = frozenset({"openai", "openai-chat", "openai-responses"})
OPENAI_URL = "https://api.openai.com/v1"
NO_KEY = "none"
"""Sent to a server of one's own that asks for no key: the library insists on one."""
SIGNING = frozenset({"bedrock"})
"""Providers that sign requests with a key, which they do not send."""

GUARDED = ("AsyncOpenAI", "AsyncAzureOpenAI", "AsyncAnthropic")
"""Clients of the protocols that the boundary knows."""

_EXTRA = re.compile(r"pydantic-ai-slim\[([\w-]+)\]")
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")


def model_of(
    name: str,
    *,
    openai_base_url: str | None = None,
    openai_api_key: str | None = None,
    own: Mapping[str, str] | None = None,
) -> Model[Any]:
    """Return the model of a string such as `openai:gpt-5-mini`.

    Args:
        own: of another provider than OpenAI: what is to be used in place of its own variables,
            `base_url` and `api_key`.
    Raises: BadAgent: the provider is unknown, its package is missing, or it lacks a key.
    """
    provider, colon, model_name = name.partition(":")
    if not colon or not provider or not model_name.strip():
        raise BadAgent(
            f"'{name}' is not an agent: use local, echo, PROVIDER:MODEL (for example "
            "openai:gpt-5-mini), python:MODULE:ATTRIBUTE or a2a+grpc://HOST:PORT"
        )
    boundary = Boundary()
    if provider in OPENAI:
        model = infer_model(
            name, lambda _: openai_provider(openai_base_url, openai_api_key, boundary)
        )
    else:
        model = _inferred(name, boundary, own or {})
    return _settled(model, boundary, may_think=provider not in OPENAI or bool(openai_base_url))


def openai_provider(
    base_url: str | None, api_key: str | None, boundary: Boundary
) -> OpenAIProvider:
    """Return OpenAI, or a server that speaks its protocol, behind the boundary.

    Raises: BadAgent.
    """
    if base_url and not _is_url(base_url):
        raise BadAgent(
            "OPENAI_BASE_URL must be an http or https URL, usually one that ends in /v1",
            ("base_url",),
        )
    if not base_url and not api_key:
        raise BadAgent(
            "OPENAI_API_KEY must be set, or OPENAI_BASE_URL for a server that needs no key"
        )
    _check_key("OPENAI_API_KEY", api_key)
    return OpenAIProvider(
        base_url=base_url or OPENAI_URL,
        api_key=api_key or NO_KEY,
        http_client=_client(boundary, base_url or OPENAI_URL),
    )


def _is_url(text: str) -> bool:
    try:
        url = httpx2.URL(text)
        return url.scheme in ("http", "https") and bool(url.host) and bool(urlsplit(text).port != 0)
    except (httpx2.InvalidURL, ValueError):  # the second: of a port
        return False


def _check_key(name: str, key: str | None) -> None:
    """Refuse a key that no header can hold: each turn would fail, as if its server were away.

    Raises: BadAgent.
    """
    if key and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise BadAgent(f"{name} must be printable ASCII, without a line break or space at an end")


def openai_chat_model(name: str, base_url: str, api_key: str) -> Model[Any]:
    """Return a model of a server that speaks OpenAI's Chat Completions, and that does not think."""
    boundary = Boundary()
    model = OpenAIChatModel(name, provider=openai_provider(base_url, api_key, boundary))
    return _settled(model, boundary, may_think=False)


async def close_model(model: Model[Any]) -> None:
    """Close the connections of a model."""
    client: Any = getattr(model.provider, "client", None)
    if type(client).__name__ in GUARDED:
        await client.close()
    async with model:  # the library closes here what it has opened itself
        pass


def _client(boundary: Boundary, base_url: str) -> httpx2.AsyncClient:
    # A worker may have more turns open than the library's limit of 1,000 connections.
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=1000)
    # A transport of ours heeds no proxy of the environment.
    is_here = is_on_this_machine(httpx2.URL(base_url).host)
    transport = httpx2.AsyncHTTPTransport(limits=limits) if is_here else None
    client = create_async_httpx2_client(limits=limits, transport=transport)
    boundary.guard(client)
    return client


def _settled(model: Model[Any], boundary: Boundary, *, may_think: bool) -> Model[Any]:
    """Let the boundary know the model's profile, and the library what the boundary does.

    A Chat Completions stream that ends before its finish reason is a failure: half an answer would
    pass for a whole one when a proxy cuts the connection politely.
    """
    if not isinstance(model, OpenAIChatModel):
        return model
    profile = model.profile
    opening, closing = profile.get("thinking_tags", DEFAULT_THINKING_TAGS)
    boundary.library_tags = (opening, closing)
    if may_think:
        boundary.tags = tuple(dict.fromkeys([(opening, closing), *DEFAULT_TAGS]))
    if field := profile.get("openai_chat_thinking_field"):
        boundary.reasoning = tuple(dict.fromkeys([field, *REASONING]))
    # Whitespace that the library leaves out depends on how the pieces are cut; the boundary's not.
    strict = OpenAIModelProfile(
        openai_chat_streaming_requires_finish_reason=True, ignore_streamed_leading_whitespace=False
    )
    if may_think:  # templates of other servers than OpenAI's take one system message, at most
        strict["openai_chat_supports_multiple_system_messages"] = False
    model.profile = cast(OpenAIModelProfile, merge_profile(profile, strict))
    return model


def _inferred(name: str, boundary: Boundary, own: Mapping[str, str]) -> Model[Any]:
    """Let the library find the model; its complaints become one sentence of ours."""
    try:
        with without_empty_variables():
            return infer_model(name, lambda provider: _provider(provider, boundary, own))
    except BadAgent:
        raise
    except Exception as error:
        raise BadAgent(complaint(name, error)) from None


def _provider(name: str, boundary: Boundary, own: Mapping[str, str]) -> Provider[Any]:
    try:
        own = _taken(name, own)
        provider: Provider[Any] = (
            cast("type[Any]", infer_provider_class(name))(**own) if own else infer_provider(name)
        )
    except ValueError:
        raise BadAgent(
            f"'{name}' is not a provider that pydantic-ai knows: for a server with OpenAI's "
            "protocol use openai-chat:MODEL and OPENAI_BASE_URL"
        ) from None
    kind = type(provider)
    if name.startswith("gateway/"):
        return provider  # made of more than its environment
    takes_client = "http_client" in inspect.signature(kind.__init__).parameters
    if takes_client and type(provider.client).__name__ in GUARDED:
        # It has opened nothing yet, so that it can be made again around a client of ours.
        _check_key(f"'{name}': its key", _key_of(provider))
        client = _client(boundary, provider.base_url)
        again: Provider[Any] = cast("type[Any]", kind)(http_client=client, **own)
        return again
    return provider


def _key_of(provider: Provider[Any]) -> str | None:
    """Return what a provider sends as its key, as far as that is known."""
    key = getattr(provider.client, "api_key", None)
    return key if isinstance(key, str) else None


def _taken(name: str, own: Mapping[str, str]) -> Mapping[str, str]:
    """Return what a provider is given of an agent's own base_url and api_key.

    A server of the agent's own gets no key of the worker's: that is for the provider's own server.

    Raises: ValueError: there is no such provider; BadAgent: it takes them by variables alone.
    """
    if not own:
        return own
    taken = inspect.signature(infer_provider_class(name).__init__).parameters
    for key in own:
        if key not in taken:
            raise BadAgent(
                f"'{name}' takes no {key} here: remove it, and set the provider's variable",
                (key,),
            )
    is_keyless = "base_url" in own and "api_key" in taken and name not in SIGNING
    return {**({"api_key": NO_KEY} if is_keyless else {}), **own}


def complaint(name: str, error: BaseException) -> str:
    """Return what pydantic-ai complains of as one sentence that says what to do."""
    text = str(error)
    if isinstance(error, ImportError):
        extra = _EXTRA.search(text)
        package = f"pydantic-ai-slim[{extra[1]}]" if extra else "its provider's package"
        return f"'{name}' needs a package that is missing: pip install '{package}'"
    variables = list(dict.fromkeys(_VARIABLE.findall(text)))
    if variables:
        return f"'{name}' needs {' or '.join(variables)} to be set"
    return f"'{name}' cannot be used ({type(error).__name__}): check its provider and model"


@contextmanager
def without_empty_variables() -> Iterator[None]:
    """Let the libraries take an empty variable of the environment for one that is not set."""
    empty = {name: value for name, value in os.environ.items() if not value}
    for name in empty:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(empty)
