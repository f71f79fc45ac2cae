"""Shows lists: as a table to a person, as lines with tabs to a program."""

import json
from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from parley.v1 import conversation_pb2 as parts
from parley.v1 import conversation_service_pb2 as pb
from parley_client.cli.profiles import Profiles
from parley_client.cli.screen import Screen
from parley_client.cli.text import ago_of, harmless, moment_of, one_line

_USED = ("tokens in", "cached", "out", "requests", "turns", "attempts", "failed")
_GAP = 2
"""The characters between two columns."""
_SHORTEST_TITLE = 12


def show_conversations(screen: Screen, conversations: Iterable[parts.Conversation]) -> None:
    """Show conversations with their ids."""
    if not screen.is_terminal:
        for each in conversations:
            moment = moment_of(each.update_time).isoformat(timespec="seconds")
            texts = map(one_line, (each.title, each.agent))
            fields = (each.conversation_id, moment, str(each.last_sequence), *texts)
            screen.print_line("\t".join(fields))
        return
    rows = [(Text(each.conversation_id), *_cells(each)) for each in conversations]
    _show_whole(screen, ("conversation", "last turn", "messages", "title"), rows)


def show_conversation(screen: Screen, conversation: parts.Conversation) -> None:
    """Show what is known of one conversation, with a name for each value."""

    def when(timestamp: Timestamp) -> str:
        iso = moment_of(timestamp).isoformat(timespec="seconds")
        return ago_of(timestamp) if screen.is_terminal else iso

    instructions = conversation.instructions
    values = [
        ("conversation", conversation.conversation_id),
        ("title", one_line(conversation.title, None)),
        *(("label", harmless(f"{k}={v}")) for k, v in sorted(conversation.labels.items())),
        ("created", when(conversation.create_time)),
        ("last turn", when(conversation.update_time)),
        ("messages", str(conversation.last_sequence)),
        ("open turn", conversation.open_turn_id),
        ("agent", one_line(conversation.agent)),
        ("forked from", _source(conversation)),
        ("revision", str(conversation.revision)),
        (
            "instructions",
            harmless(instructions) if screen.is_terminal else one_line(instructions, None),
        ),
    ]
    if not screen.is_terminal:
        for name, value in values:
            screen.print_line(f"{name}\t{value}")
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")  # an id, and a script without spaces, is one long word
    for name, value in values:
        if value:
            table.add_row(Text(name, style="dim"), Text(value))
    screen.show(table, fits=True)


def show_agents(screen: Screen, agents: Iterable[pb.Agent]) -> None:
    """Show agents, with what each is for."""
    rows = [
        (
            one_line(each.name),
            "default" if each.is_default else "",
            "rehearses" if each.can_rehearse else "",
            one_line(each.description, None),
        )
        for each in agents
    ]
    if not screen.is_terminal:
        for row in rows:
            screen.print_line("\t".join(row))
        return
    table = _table("agent", "", "", "description")
    for row in rows:
        table.add_row(*map(Text, row))
    _show(screen, table, "No agents.")


def show_usage(screen: Screen, rows: Sequence[pb.UsageRow], *, by_agent: bool, label: str) -> None:
    """Show what was used, with sums for a person.

    Args:
        label: the key of the label that rows are told apart by. Empty: none.
    """
    names = ["day", *(["agent"] if by_agent else []), *([label] if label else [])]

    def keys_of(row: pb.UsageRow) -> list[str]:
        return [row.date, *([row.agent] if by_agent else []), *([row.label_value] if label else [])]

    if not screen.is_terminal:
        for row in rows:
            screen.print_line("\t".join([*map(one_line, keys_of(row)), *map(str, _numbers(row))]))
        return
    table = Table(box=None, header_style="dim", pad_edge=False, show_footer=len(rows) > 1)
    for name in names:
        footer = "sum" if name == names[0] else ""
        table.add_column(Text(harmless(name)), footer=footer, overflow="fold")
    sums = [sum(column) for column in zip(*map(_numbers, rows), strict=True)]
    for number, name in enumerate(_USED):
        footer = f"{sums[number]:,}" if sums else ""
        table.add_column(name, justify="right", footer=footer, overflow="fold")
    for row in rows:
        keys = (Text(one_line(key)) for key in keys_of(row))
        table.add_row(*keys, *(f"{number:,}" for number in _numbers(row)))
    _show(screen, table, "Nothing was used.")


def show_numbered(
    screen: Screen, conversations: Iterable[parts.Conversation], current_id: str
) -> None:
    """Show conversations with a number each, and mark the current one."""
    table = _table("", "last turn", "messages", "title")
    for number, each in enumerate(conversations, 1):
        mark = "*" if each.conversation_id == current_id else " "
        table.add_row(f"{mark}{number:>3}", *_cells(each))
    _show(screen, table, "No conversations yet.")


def show_profiles(screen: Screen, profiles: Profiles, *, as_json: bool) -> None:
    """Show the profiles, without their tokens."""
    rows = [
        {
            "profile": name,
            "is_default": name == profiles.default,
            "address": profile.get("address", ""),
            "token_from": next((key for key in profile if key.startswith("token")), ""),
        }
        for name, profile in profiles.by_name.items()
    ]
    if as_json or not screen.is_terminal:
        for row in rows:
            fields = ("*" if row["is_default"] else "", *list(row.values())[2:])
            text = "\t".join((str(row["profile"]), *map(str, fields)))
            screen.print_line(json.dumps(row, ensure_ascii=False) if as_json else text)
        return
    table = _table("profile", "", "address", "token from")
    for row in rows:
        default = "default" if row["is_default"] else ""
        cells = (row["profile"], default, row["address"], row["token_from"])
        table.add_row(*(Text(harmless(str(cell))) for cell in cells))
    _show(screen, table, f"No profiles yet. Define them in {profiles.path}.")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in columns:
        table.add_column(
            name,
            no_wrap=name != "description",
            justify="right" if name == "messages" else "left",
            overflow="ellipsis" if name in ("title", "address") else "fold",
        )
    return table


def _cells(conversation: parts.Conversation) -> tuple[Text, ...]:
    title = Text(one_line(conversation.title))
    if conversation.agent:
        title = Text(f"({one_line(conversation.agent)}) ", style="dim") + title
    if conversation.open_turn_id:
        title = Text("(being answered) ", style="dim") + title
    return Text(ago_of(conversation.update_time)), Text(str(conversation.last_sequence)), title


def _show_whole(screen: Screen, names: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Show rows whose first cell is never cut: the last one is, and those between are left out."""
    widths = [max([len(name), *(row[n].cell_len for row in rows)]) for n, name in enumerate(names)]
    *others, last = range(1, len(names))
    left = screen.width - widths[0]
    if left < 0:
        for row in rows:
            screen.print_line(row[0].plain)  # the terminal breaks the line
        return
    kept = [0]
    for n in others:
        if left - widths[n] - _GAP >= _SHORTEST_TITLE + _GAP:
            left -= widths[n] + _GAP
            kept.append(n)
    if left >= _SHORTEST_TITLE + _GAP:
        kept.append(last)
    table = _table(*(names[n] for n in kept))
    for row in rows:
        table.add_row(*(_fitting(row[n], left - _GAP) if n == last else row[n] for n in kept))
    _show(screen, table, "No conversations yet.")


def _show(screen: Screen, table: Table, instead: str) -> None:
    if table.row_count:
        screen.show(table, fits=True)
    else:
        screen.hint(instead)


def _fitting(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text


def _source(conversation: parts.Conversation) -> str:
    """Return what a conversation was copied from; empty: it was not."""
    source = conversation.forked_from
    return (
        f"{source.conversation_id}, up to {source.last_sequence}" if source.conversation_id else ""
    )


def _numbers(row: pb.UsageRow) -> tuple[int, ...]:
    used = row.usage
    tokens = (used.input_tokens, used.cached_input_tokens, used.output_tokens)
    return (*tokens, used.model_requests, row.turns, row.attempts, row.failed_attempts)
