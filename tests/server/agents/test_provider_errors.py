"""Whatever a provider does wrong becomes one of three errors, and its words go no further."""

import asyncio
import json
import logging
import traceback

import pytest
from pydantic_ai import Agent as UsersAgent
from pydantic_ai.exceptions import ModelHTTPError, ModelTimeoutError, RunTimedOut
from pydantic_ai.models.fallback import FallbackModel

from parley_server.agents.catalog import create_agent
from parley_server.agents.model_strings import model_of
from parley_server.agents.provider_errors import MAX_RETRY_AFTER_S, agent_error
from parley_server.agents.pydantic_agent import CHATTY_LOGGERS, PydanticAgent
from parley_server.core.errors import AgentError, AgentRefused, AgentTimeout, AgentUnavailable
from parley_server.core.ports import Agent
from support.agent_runs import Told, a_run, a_user_message, an_answer, told_by
from support.fake_openai import PROVIDER_TEXT, Fail, FakeOpenAI, HangUp, Raw, Say, Stall
from support.openai_script import Step
from support.wire_provider import a_stream, event

SAID = "WHAT-WAS-SAID"
ANSWERED = "WHAT-WAS-ANSWERED, at some length"

CHAT = "openai-chat:any"
RESPONSES = "openai:any"

BEFORE_THE_STREAM: list[tuple[Step, type[AgentError]]] = [
    (Fail(301, headers={"location": "https://provider.example/v1"}), AgentRefused),
    (Fail(307, headers={"location": "/other"}), AgentRefused),
    (Fail(400, type="invalid_request_error"), AgentRefused),
    (Fail(400, code="content_filter"), AgentRefused),
    (Fail(401), AgentRefused),
    (Fail(402), AgentRefused),
    (Fail(403), AgentRefused),
    (Fail(404, code="model_not_found"), AgentRefused),
    (Fail(408), AgentUnavailable),
    (Fail(409), AgentUnavailable),
    (Fail(413), AgentRefused),
    (Fail(422), AgentRefused),
    (Fail(424), AgentUnavailable),
    (Fail(499), AgentUnavailable),
    (Fail(429), AgentUnavailable),
    (Fail(429, code="insufficient_quota", type="insufficient_quota"), AgentRefused),
    (Fail(500), AgentUnavailable),
    (Raw(b"<html>PROVIDER-TEXT</html>", 502, "text/html"), AgentUnavailable),
    (Fail(503), AgentUnavailable),
    (Fail(504), AgentUnavailable),
    (Fail(529), AgentUnavailable),
    (HangUp(), AgentUnavailable),
    (Raw(b"<html>PROVIDER-TEXT</html>", 200, "text/html"), AgentUnavailable),
    (Raw(b"{}"), AgentUnavailable),
    (Raw(b"", content_type="text/event-stream"), AgentUnavailable),
]
WITHIN_THE_STREAM = [
    Say(ANSWERED, cut_after=4),
    Say(ANSWERED, garbage_after=4),
    Say(ANSWERED, error_after=4),
    Say(ANSWERED, end_after=4),
]


async def failure_of(agent: Agent, into: Told | None = None) -> BaseException:
    with pytest.raises(AgentError) as caught:
        await told_by(agent, a_run(SAID), into)
    return caught.value


@pytest.mark.parametrize("name", [CHAT, RESPONSES])
@pytest.mark.parametrize(("step", "expected"), BEFORE_THE_STREAM, ids=lambda part: repr(part)[:60])
async def test_an_error_instead_of_an_answer_has_its_row(
    name: str, step: Step, expected: type[AgentError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with FakeOpenAI([step]) as fake:
        error = await failure_of(create_agent(name, openai_base_url=fake.base_url))

        assert expected is type(error)
        assert 1 == len(fake.requests), "nothing is sent again by the library"
    assert_no_words(error, caplog)


@pytest.mark.parametrize("step", WITHIN_THE_STREAM, ids=lambda step: repr(step)[-60:])
async def test_a_stream_that_breaks_is_unavailable_and_what_came_was_passed_on(
    step: Say, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = Told()
    with FakeOpenAI([step]) as fake:
        error = await failure_of(create_agent(CHAT, openai_base_url=fake.base_url), told)

    assert AgentUnavailable is type(error)
    assert told.text
    assert ANSWERED.startswith(told.text)
    assert_no_words(error, caplog)


def assert_no_words(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the error, nor what it hangs on, nor the log repeats what anybody said."""
    told = "".join(traceback.format_exception(error))
    assert error.__cause__ is None
    assert error.__context__ is None
    logged = caplog.text + "".join(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records
    )
    for words in (PROVIDER_TEXT.split()[0], SAID, "WHAT-WAS-ANSWERED"):
        assert words not in told
        assert words not in logged


async def test_the_log_says_which_status_and_code_it_was(caplog: pytest.LogCaptureFixture) -> None:
    with FakeOpenAI([Fail(401, code="invalid_api_key")]) as fake:
        await failure_of(create_agent(CHAT, openai_base_url=fake.base_url))

    (record,) = [r for r in caplog.records if r.getMessage() == "agent failed"]
    assert ("ModelAuthenticationError", 401, "invalid_api_key") == (
        record.__dict__["error"],
        record.__dict__["status"],
        record.__dict__["code"],
    )


async def test_the_log_says_that_it_was_a_redirect(caplog: pytest.LogCaptureFixture) -> None:
    """Fails when only what the library names is logged: a wrong URL is a riddle then."""
    with FakeOpenAI([Fail(308, headers={"location": "/other"})]) as fake:
        await failure_of(create_agent(CHAT, openai_base_url=fake.base_url))

    (record,) = [r for r in caplog.records if r.getMessage() == "agent failed"]
    assert 308 == record.__dict__["status"]


async def test_the_log_has_no_code_where_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    with FakeOpenAI([Raw(b"", 503)]) as fake:
        await failure_of(create_agent(CHAT, openai_base_url=fake.base_url))

    (record,) = [r for r in caplog.records if r.getMessage() == "agent failed"]
    assert 503 == record.__dict__["status"]
    assert "code" not in record.__dict__


async def test_a_providers_library_logs_no_requests(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG some of them write whole requests, with everything that was said."""
    caplog.set_level(logging.DEBUG)
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    with FakeOpenAI([Fail(400)]) as fake:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.base_url)
        error = await failure_of(create_agent("anthropic:claude-sonnet-5"))

    assert AgentRefused is type(error)
    assert_no_words(error, caplog)


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "99999999999999999999"}, MAX_RETRY_AFTER_S),
    ],
)
async def test_a_limited_provider_says_how_long(
    headers: dict[str, str], expected_s: float | None
) -> None:
    with FakeOpenAI([Fail(429, headers=headers)]) as fake:
        error = await failure_of(create_agent(CHAT, openai_base_url=fake.base_url))

    assert isinstance(error, AgentUnavailable)
    assert expected_s == error.retry_after_s


async def test_a_provider_that_cannot_be_reached_is_unavailable() -> None:
    with FakeOpenAI([Say()]) as fake:
        agent = create_agent(CHAT, openai_base_url=fake.base_url)

    assert AgentUnavailable is type(await failure_of(agent))


@pytest.mark.parametrize("step", [Stall(), Say(ANSWERED, stall_after=4)], ids=["at once", "midway"])
async def test_a_stalled_provider_is_left_when_the_run_is_cancelled(step: Step) -> None:
    with FakeOpenAI([step]) as fake:
        agent = create_agent(CHAT, openai_base_url=fake.base_url)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(told_by(agent), timeout=0.5)

        assert await asyncio.to_thread(fake.requests[0].left.wait, 5), "the provider was not left"


async def test_a_prompt_that_is_too_long_is_sent_again_with_half_of_the_window() -> None:
    """The estimate of tokens may be wrong by far; the conversation must not end there."""

    def refuse_long(request: dict[str, list[dict[str, str]]]) -> Step:
        size = sum(len(message["content"]) for message in request["messages"])
        too_long = Fail(400, code="400", type="exceed_context_size_error")
        return too_long if size > 2_000 else Say("Short enough.")

    with FakeOpenAI([refuse_long]) as fake:
        agent = create_agent(CHAT, openai_base_url=fake.base_url)

        told = await told_by(agent, a_run("word " * 4_000))

        assert "Short enough." == told.text
        sent = fake.requests[-1].json["messages"][-1]["content"]
        assert sent.startswith("word ")
        assert sent.endswith("word ")


def _says(status: int, message: str, **fields: object) -> Raw:
    return Raw(json.dumps({"error": {"message": message, **fields}}).encode(), status)


EARLIER = (
    *(a_user_message("Hi"), an_answer("Hello.")),
    *(a_user_message("So?", 3), an_answer("Yes.", sequence=4)),
)
TOO_LONG = {
    "by status": Raw(b"<html>413 Request Entity Too Large</html>", 413, "text/html"),
    "prompt length": Raw(
        b'{"code": "Client specified an invalid argument", "error": "This model\'s maximum prompt '
        b'length is 131072 but the request contains 200000 tokens."}',
        400,
    ),
    "context length": Raw(
        b'{"object": "error", "code": 400, "type": "BadRequestError", "message": "The input (9000 '
        b"tokens) is longer than the model's context length (4096 tokens).\"}",
        400,
    ),
    "input length": _says(
        400,
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
        type="invalid_request_error",
        code="invalid_parameter_error",
    ),
    "less than": Raw(
        b'{"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: '
        b'5000", "error_type": "validation"}',
        422,
    ),
    "token limit": _says(400, "Invalid request: Your request exceeded model token limit: 8192"),
    "max length": _says(400, "Prompt exceeds max length", code="1261"),
    "too many tokens": _says(400, "too many tokens: the prompt cannot exceed 4081"),
    "a limit a minute": _says(
        429,
        "Request too large for gpt on tokens per min (TPM): Limit 30000, Requested 35000.",
        type="tokens",
        code="rate_limit_exceeded",
    ),
    "a failure": _says(500, "the request exceeds the available context size"),
    "in a stream, by MiniMax": a_stream(
        event(
            {
                "choices": None,
                "base_resp": {
                    "status_code": 2013,
                    "status_msg": "invalid params, context window exceeds limit",
                },
            }
        )
    ),
    "in a stream, behind a gateway": a_stream(
        event(
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 502,
                    "metadata": {"raw": "prompt is too long: 213462 tokens > 200000 maximum"},
                }
            }
        )
    ),
    "in a stream": a_stream(
        event(
            {
                "error": {
                    "message": "Trying to keep the first 4097 tokens when context the overflows. "
                    "However, the model is loaded with context length of only 4096 tokens."
                }
            }
        )
    ),
}


@pytest.mark.parametrize("how", TOO_LONG)
async def test_a_prompt_is_shortened_in_whatever_words_it_is_too_long(how: str) -> None:
    """Promise 10. Fails when only the library's words count: each later turn is refused as well."""

    def refuse_long(request: dict[str, list[dict[str, str]]]) -> Step:
        return TOO_LONG[how] if len(request["messages"]) > 2 else Say("Short enough.")

    with FakeOpenAI([refuse_long]) as fake:
        agent = create_agent(CHAT, openai_base_url=fake.base_url)

        assert "Short enough." == (await told_by(agent, a_run(earlier=EARLIER))).text


async def test_a_prompt_is_shortened_for_models_that_stand_in_for_each_other() -> None:
    """Fails when their errors together are none about the length."""

    def refuse_long(request: dict[str, list[dict[str, str]]]) -> Step:
        return TOO_LONG["by status"] if len(request["messages"]) > 2 else Say("Short enough.")

    with FakeOpenAI([Fail(503)]) as one, FakeOpenAI([refuse_long]) as other:
        urls = (one.base_url, other.base_url)
        model = FallbackModel(*(model_of(CHAT, openai_base_url=url) for url in urls))
        agent = PydanticAgent(UsersAgent(model), model)

        assert "Short enough." == (await told_by(agent, a_run(earlier=EARLIER))).text


@pytest.mark.parametrize(
    "other",
    [
        _says(
            400,
            "Invalid 'messages[3].tool_calls[0].id': string too long. Expected a string "
            "with maximum length 40, but got a string with length 60 instead.",
        ),
        _says(
            400,
            "max_tokens is too large: 100000. This model supports at most 16384 completion "
            "tokens, whereas you provided 100000.",
        ),
        _says(400, "Unsupported parameter: 'max_tokens' is not supported with this model."),
        _says(
            429,
            "Rate limit reached on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000.",
        ),
        _says(429, "This request would exceed your rate limit of 40,000 input tokens per minute"),
        _says(401, "Your token limit key is not valid."),
        _says(400, "max_tokens (5000) exceeds the limit of 4096"),
        _says(500, "context deadline exceeded"),
        a_stream(event({"error": {"message": "Rate limit: tokens per minute exceeded"}})),
    ],
    ids=lambda raw: raw.body[24:50].decode(),
)
async def test_a_prompt_that_is_refused_for_something_else_is_not_shortened(other: Raw) -> None:
    with FakeOpenAI([other]) as fake:
        agent = create_agent(CHAT, openai_base_url=fake.base_url)
        with pytest.raises(AgentError):
            await told_by(agent, a_run("word " * 1_000))

        assert 1 == len(fake.requests)


async def test_a_prompt_that_is_always_too_long_is_refused_in_the_end() -> None:
    with FakeOpenAI([Fail(400, code="context_length_exceeded")]) as fake:
        agent = create_agent(CHAT, openai_base_url=fake.base_url)

        assert AgentRefused is type(await failure_of(agent))
        assert 1 == len(fake.requests)


def test_models_that_stand_in_for_each_other_refuse_only_if_all_do() -> None:
    refused = ModelHTTPError(413, "any")
    limited = ModelHTTPError(429, "any", headers={"retry-after": "3"})
    turn_id = a_run().turn_id

    all_refuse = agent_error(ExceptionGroup("", [refused, refused]), turn_id)
    one_is_limited = agent_error(ExceptionGroup("", [refused, limited]), turn_id)

    assert isinstance(all_refuse, AgentRefused)
    assert isinstance(one_is_limited, AgentUnavailable)
    assert 3.0 == one_is_limited.retry_after_s


@pytest.mark.parametrize("error", [ModelTimeoutError("any", "words"), RunTimedOut("words")])
def test_a_limit_of_the_librarys_own_is_a_timeout(error: Exception) -> None:
    assert isinstance(agent_error(error, a_run().turn_id), AgentTimeout)


def test_an_error_of_somebodys_code_has_no_row() -> None:
    assert agent_error(KeyError("words"), a_run().turn_id) is None
