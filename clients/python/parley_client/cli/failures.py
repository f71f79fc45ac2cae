"""How the command fails: what is said on standard error, and the exit code.

0    it worked
1    anything that is not below, such as a refusal by the model's provider
2    the request is wrong: options, arguments, or a field that the server refuses
3    no valid token, one without the scope, or a token command that printed none
4    no such conversation
5    the conversation is busy, or somewhere else than expected
6    the server, or something it needs, is not there, overloaded, or was too slow
130  Ctrl-C
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from parley_client import errors
from parley_client.cli.screen import Screen
from parley_client.cli.tokens import TokenCommandFailed
from parley_client.errors import ParleyError

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Row:
    """What a kind of error means to whoever gave the command."""

    exit_code: int
    advice: str = ""


_LATER = "Try again in a moment."

TABLE: dict[type[ParleyError], Row] = {
    errors.InvalidRequest: Row(2),
    errors.AgentUnknown: Row(2, "Leave --agent out for the default one."),
    errors.Unauthenticated: Row(
        3,
        "Set PARLEY_TOKEN, PARLEY_TOKEN_FILE or PARLEY_TOKEN_COMMAND, or choose a profile with "
        "--profile. "
        "Where the server has a shared secret, `parley-server token --user NAME` mints one.",
    ),
    errors.ScopeMissing: Row(3, "Ask for a token that has it."),
    errors.ConversationNotFound: Row(4, "`parley list` shows the ones that this token may see."),
    errors.TurnNotFound: Row(4),
    errors.TurnInProgress: Row(5, "Try again when it has ended, or wait for that with --wait."),
    errors.SequenceMismatch: Row(5),
    errors.LeaseLost: Row(5, _LATER),
    errors.TurnSuperseded: Row(5, "Say it again, without --request-id, if it still matters."),
    errors.AttemptsExhausted: Row(1, "Say it again, without --request-id, if it still matters."),
    errors.Overloaded: Row(6, _LATER),
    errors.Unavailable: Row(6, _LATER),
    errors.DeadlineExceeded: Row(6, "Allow more time with --timeout."),
    errors.AgentRefused: Row(1, "The server's agent is not set up right: its log says more."),
    errors.InternalError: Row(1, "This is a defect of the server's. Report it with the call id."),
}

_UNREACHABLE = (
    "Is the server running at {address}? `make run` starts one on this machine. "
    "One elsewhere that has no TLS needs --plaintext."
)


def row_of(error: ParleyError) -> Row:
    """Return the table's row for an error; a class without one has its base's."""
    for known in type(error).__mro__:
        if known in TABLE:
            return TABLE[known]
    return Row(1)


def sentences(error: ParleyError, address: str) -> list[str]:
    """Return what to say of an error, a line each: what is wrong, then what to do."""
    lines = [f"{error.reason or error.code.name}: {error.message}"]
    if error.call_id:
        lines.append(f"Call id: {error.call_id}")
    is_unreachable = isinstance(error, errors.Unavailable) and not error.reason
    advice = _UNREACHABLE.format(address=address) if is_unreachable else row_of(error).advice
    if advice == _LATER and error.retry_after_s:
        advice = f"Try again in {error.retry_after_s:g} s."
    return [*lines, advice] if advice else lines


@contextmanager
def exit_codes(screen: Screen, address: str) -> Iterator[None]:
    """Turn what goes wrong inside into words on standard error and an exit code."""
    try:
        yield
    except ParleyError as error:
        lines = sentences(error, address)
        if error.request_id and error.is_retryable:
            lines.append(f"The same turn again, never twice: --request-id {error.request_id}")
        screen.complain(*lines)
        raise typer.Exit(row_of(error).exit_code) from None
    except KeyboardInterrupt:
        screen.complain("given up")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise  # whoever read the output has had enough
    except TokenCommandFailed as error:
        screen.complain(str(error))
        raise typer.Exit(row_of(errors.Unauthenticated("")).exit_code) from None
    except OSError as error:
        screen.complain(str(error))
        raise typer.Exit(1) from None
    except ValueError as error:  # a token or an id that cannot be sent
        screen.complain(str(error))
        raise typer.Exit(2) from None
