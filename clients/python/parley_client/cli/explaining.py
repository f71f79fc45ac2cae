"""Shows what a turn's agent was shown and did: as tables to a person, as lines to a program.

A line's first field says what the others are:

    turn, conversation, state, agent, model     its value
    instructions     their digest; "unchanged" or "changed"
    usage            tokens in, cached, out; requests to the model
    shown            sequence, role, bytes; "shortened" or ""; tools, with commas; the beginning
    omitted          first sequence, last sequence, reason
    call             step, tool, arguments, result; "failed" or ""
    attempt          number, start, end, the reason of a failure
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.screen import Screen
from parley_client.cli.text import counted, harmless, moment_of, one_line
from parley_client.cli.words import call_line, name_of, reason_of, speaker_of, state_of, tokens_of

_GAP = 2
"""The characters between two columns."""
_SHORTEST = 12
"""The fewest characters of a message that are shown of it."""
_OMITTED: dict[int, str] = {
    pb.OMISSION_REASON_OLDER: "older than the window",
    pb.OMISSION_REASON_UNANSWERED: "not answered",
    pb.OMISSION_REASON_WITHDRAWN: "withdrawn before anything was said",
}

Row = tuple[int, tuple[Text, ...]]
"""A line of the window, with the sequence that it is sorted by."""


def show_explanation(screen: Screen, explained: pb.ExplainTurnResponse) -> None:
    """Show it."""
    if not screen.is_terminal:
        for fields in _lines(explained):
            screen.print_line("\t".join(fields))
        return
    _show_rows(screen, [(Text(n, style="dim"), Text(v)) for n, v in _facts(explained) if v])
    _show_window(screen, explained)
    if explained.tool_calls:
        _begin(screen, "What it did")
        for call in explained.tool_calls:
            step = f"  step {call.step}  " if call.step else "  "
            screen.show(Text(step + call_line(call)))
    if explained.attempts:
        _begin(screen, "Attempts")
        _show_rows(screen, [_attempt(explained.turn, each) for each in explained.attempts])


def _facts(explained: pb.ExplainTurnResponse) -> Iterator[tuple[str, str]]:
    turn = explained.turn
    yield "turn", turn.turn_id
    yield "conversation", turn.conversation_id
    failure = f"{reason_of(turn.error_reason)}: {one_line(turn.error_text)}"
    yield "state", f"{state_of(turn)}, {failure}" if turn.error_reason else state_of(turn)
    yield "agent", one_line(turn.agent) or "the default agent"
    yield "model", one_line(turn.model)
    if digest := harmless(explained.instructions_digest):
        same = "the same now" if explained.instructions_unchanged else "other ones now"
        yield "instructions", f"{digest[:12]}…, {same}"
    yield "window", _window(explained)
    if turn.HasField("usage"):
        requests = counted(turn.usage.model_requests, "request")
        yield "used", f"{tokens_of(turn.usage)}, {requests}"


def _window(explained: pb.ExplainTurnResponse) -> str:
    context = explained.context
    if not explained.HasField("context"):
        return ""
    text = f"{counted(context.message_count, 'message')}, from #{context.first_sequence} on"
    if context.omitted_count:
        text += f"; {context.omitted_count:,} left out"
    if context.message_count != len(explained.messages):
        text += f" (windows are of another size now: {len(explained.messages):,} of them are here)"
    return text


def _show_window(screen: Screen, explained: pb.ExplainTurnResponse) -> None:
    if not explained.messages:
        return
    has_answer = explained.HasField("context")
    _begin(screen, "What it was shown" if has_answer else "What it would be shown")
    rows = [_shown(each) for each in explained.messages]
    rows += [_left_out(each) for each in explained.omitted]
    _show_rows(screen, [cells for _, cells in sorted(rows, key=lambda row: row[0])], is_cut=True)


def _shown(message: pb.ShownMessage) -> Row:
    size = f"{message.content_bytes:,} B"
    text = Text(", ".join(f"→ {one_line(name)}" for name in message.tools), style="dim")
    if message.tools and message.preview:
        text.append(" · ")
    text.append(one_line(message.preview, 200), style="default")
    if message.is_shortened:
        text = Text("(its middle was left out) ", style="dim") + text
    who = speaker_of(message.role)
    return message.sequence, (Text(f"  #{message.sequence}"), Text(who), Text(size), text)


def _left_out(messages: pb.OmittedMessages) -> Row:
    first, last = messages.first_sequence, messages.last_sequence
    numbers = f"  #{first}" if first == last else f"  #{first} to #{last}"
    why = _OMITTED.get(messages.reason, "for another reason")
    dim = [Text(cell, style="dim") for cell in (numbers, "", "", f"left out: {why}")]
    return first, tuple(dim)


def _attempt(turn: parts.Turn, attempt: pb.Attempt) -> tuple[Text, ...]:
    is_running = turn.state == parts.TURN_STATE_RUNNING and attempt.number == turn.attempt
    if reason := reason_of(attempt.error_reason):
        how = reason
    elif attempt.HasField("end_time"):
        how = "ended"
    else:
        how = "running" if is_running else "its end is not known"
    took = ""
    if attempt.HasField("start_time") and attempt.HasField("end_time"):
        passed = moment_of(attempt.end_time) - moment_of(attempt.start_time)
        took = f"{passed.total_seconds():.1f} s"
    began = _iso(attempt, "start_time", "seconds") or "unknown"
    cells = (f"  {attempt.number}", began, took, how)
    return tuple(map(Text, cells))


def _show_rows(screen: Screen, rows: Sequence[tuple[Text, ...]], *, is_cut: bool = False) -> None:
    """Show rows. Args: is_cut: cut the last cell where the screen ends, instead of wrapping it."""
    *others, last = range(len(rows[0]))
    table = Table.grid(padding=(0, _GAP, 0, 0))
    for _ in others:
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    left = screen.width - sum(max(row[n].cell_len for row in rows) + _GAP for n in others) - _GAP
    for row in rows:
        if is_cut:
            row[last].truncate(max(left, _SHORTEST), overflow="ellipsis")
        table.add_row(*row)
    screen.show(table, fits=True)


def _begin(screen: Screen, title: str) -> None:
    screen.print_line("")
    screen.show(Text(title, style="bold"))


def _lines(explained: pb.ExplainTurnResponse) -> Iterator[tuple[str, ...]]:
    turn, used = explained.turn, explained.turn.usage
    yield "turn", turn.turn_id
    yield "conversation", turn.conversation_id
    yield "state", state_of(turn)
    yield "agent", one_line(turn.agent)
    yield "model", one_line(turn.model)
    same = "unchanged" if explained.instructions_unchanged else "changed"
    yield "instructions", one_line(explained.instructions_digest), same
    tokens = (used.input_tokens, used.cached_input_tokens, used.output_tokens)
    yield ("usage", *map(str, (*tokens, used.model_requests)))
    for message in explained.messages:
        yield (
            "shown",
            str(message.sequence),
            name_of(parts.Role, message.role).lower(),
            str(message.content_bytes),
            "shortened" if message.is_shortened else "",
            ",".join(map(one_line, message.tools)),
            one_line(message.preview, 200),
        )
    for omitted in explained.omitted:
        reason = name_of(pb.OmissionReason, omitted.reason).lower()
        yield "omitted", str(omitted.first_sequence), str(omitted.last_sequence), reason
    for call in explained.tool_calls:
        texts = (one_line(text, None) for text in (call.name, call.arguments, call.result))
        yield ("call", str(call.step), *texts, "failed" if call.is_error else "")
    for attempt in explained.attempts:
        times = (_iso(attempt, "start_time"), _iso(attempt, "end_time"))
        yield ("attempt", str(attempt.number), *times, reason_of(attempt.error_reason))


def _iso(
    attempt: pb.Attempt,
    name: Literal["start_time", "end_time"],
    timespec: str = "milliseconds",
) -> str:
    """Return when an attempt began or ended; empty: that is not known."""
    moment: Timestamp = getattr(attempt, name)
    return moment_of(moment).isoformat(timespec=timespec) if attempt.HasField(name) else ""
