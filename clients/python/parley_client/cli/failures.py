"""Turns errors into a text on standard error and an exit code.

0    success
1    any other error, such as a refusal by the model's provider
2    the request is invalid: options, arguments, or a field that the server refuses
3    no valid token, a token without the scope, or a token command or file without one
4    no such conversation, or no such turn
5    the conversation is busy, or was changed by another caller
6    the server, or something it needs, is unavailable, overloaded, or too slow
7    the turn waits for its caller: `parley resume` goes on
130  Ctrl-C
143  SIGTERM; another signal that ends the process has its own number, added to 128
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from parley_client import errors
from parley_client.cli.screen import Screen
from parley_client.cli.tokens import NoToken
from parley_client.errors import ParleyError

WAITS = 7
KILLED = 128
"""To which the number of a signal is added, as shells do."""
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Row:
    """How the command ends after a kind of error, and what the user can do."""

    exit_code: int
    advice: str = ""


_LATER = "Try again in a moment."

TABLE: dict[type[ParleyError], Row] = {
    errors.InvalidRequest: Row(2),
    errors.AgentUnknown: Row(2, "`parley agents` shows the agents that there are."),
    errors.Unauthenticated: Row(
        3,
        "Set PARLEY_TOKEN, PARLEY_TOKEN_FILE or PARLEY_TOKEN_COMMAND, or choose a profile with "
        "--profile. "
        "If the server has a shared secret, `parley-server token --user NAME` makes a token.",
    ),
    errors.ScopeMissing: Row(3, "Get a token that has it."),
    errors.ConversationNotFound: Row(
        4, "`parley list` shows the conversations that this token may see."
    ),
    errors.TurnNotFound: Row(4),
    errors.ResultAlreadyGiven: Row(
        5, "A result cannot be changed. `parley resume` without results shows what is missing."
    ),
    errors.CallNotPending: Row(5, "`parley resume` without results shows what the turn waits for."),
    errors.TurnInProgress: Row(5, "Try again when it has ended, or wait for its end with --wait."),
    errors.SequenceMismatch: Row(5),
    errors.RevisionMismatch: Row(5, _LATER),
    errors.ConversationExists: Row(1, "Leave out --id to create one with a new id."),
    errors.LeaseLost: Row(5, _LATER),
    errors.TurnSuperseded: Row(
        5, "Send the message again without --request-id if you still need the answer."
    ),
    errors.AttemptsExhausted: Row(
        1, "Send the message again without --request-id if you still need the answer."
    ),
    errors.NotATurnBoundary: Row(
        1, "Leave out --up-to to copy everything up to the newest turn that has ended."
    ),
    errors.CursorExpired: Row(
        1,
        "Read what you need with `parley list` and `parley history`, then leave out --after, or "
        "remove the cursor file.",
    ),
    errors.Overloaded: Row(6, _LATER),
    errors.BudgetExhausted: Row(
        6, "The day ends at midnight UTC. The server's operator sets how many tokens it has."
    ),
    errors.Unavailable: Row(6, _LATER),
    errors.DeadlineExceeded: Row(6, "Allow more time with --timeout."),
    errors.AgentRefused: Row(
        1, "The server's agent is misconfigured: the server's log has the details."
    ),
    errors.WindowIncomplete: Row(1, "Rehearse another turn, or with another --agent."),
    errors.NoRehearsal: Row(1, "`parley agents` shows the agents that can rehearse."),
    errors.InternalError: Row(1, "This is a defect of the server. Report it with the call id."),
}

_UNREACHABLE = (
    "Is the server running at {address}? `make run` starts one on this machine. "
    "A server elsewhere that has no TLS needs --plaintext."
)


def row_of(error: ParleyError) -> Row:
    """Return the table's row for an error; a class without a row has its base's."""
    for known in type(error).__mro__:
        if known in TABLE:
            return TABLE[known]
    return Row(1)


def sentences(error: ParleyError, address: str) -> list[str]:
    """Return the lines that describe an error: what is wrong, then what to do."""
    lines = [f"{error.reason or error.code.name}: {error.message}"]
    if error.call_id:
        lines.append(f"Call id: {error.call_id}")
    if isinstance(error, errors.CursorExpired) and error.oldest_time:
        oldest = error.oldest_time.isoformat(timespec="seconds")
        lines.append(f"The oldest turn that is kept ended at {oldest}.")
    is_unreachable = isinstance(error, errors.Unavailable) and not error.reason
    advice = _UNREACHABLE.format(address=address) if is_unreachable else row_of(error).advice
    if advice == _LATER and error.retry_after_s:
        advice = f"Try again in {error.retry_after_s:g} s."
    return [*lines, advice] if advice else lines


@contextmanager
def exit_codes(screen: Screen, address: str) -> Iterator[None]:
    """Turn errors inside the block into a text on standard error and an exit code."""
    try:
        yield
    except ParleyError as error:
        lines = sentences(error, address)
        if error.request_id and error.is_retryable:
            lines.append(f"To repeat this call, never twice: --request-id {error.request_id}")
        screen.complain(*lines)
        raise typer.Exit(row_of(error).exit_code) from None
    except KeyboardInterrupt:
        screen.complain("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        raise  # the reader of the output has closed it
    except NoToken as error:
        screen.complain(str(error))
        raise typer.Exit(row_of(errors.Unauthenticated("")).exit_code) from None
    except OSError as error:
        screen.complain(str(error))
        raise typer.Exit(1) from None
    except UnicodeEncodeError:
        screen.complain("an argument is not UTF-8")
        raise typer.Exit(2) from None
    except UnicodeDecodeError:  # other files say so by themselves
        screen.complain("the token file is not UTF-8")
        raise typer.Exit(2) from None
    except ValueError as error:  # a token or an id that cannot be sent
        screen.complain(str(error))
        raise typer.Exit(2) from None
