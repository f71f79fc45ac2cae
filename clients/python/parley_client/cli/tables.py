"""Shows lists: as a table to a person, as lines with tabs to a program."""

import json
from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from parley.v1 import conversation_pb2 as parts
from parley_client.cli.profiles import Profiles
from parley_client.cli.screen import Screen
from parley_client.cli.text import ago_of, harmless, moment_of, one_line

_WHOLE = 10_000
"""More characters than any text of a conversation has."""


def show_conversations(screen: Screen, conversations: Iterable[parts.Conversation]) -> None:
    """Show conversations with their ids."""
    if not screen.is_terminal:
        for each in conversations:
            moment = moment_of(each.update_time).isoformat(timespec="seconds")
            fields = (each.conversation_id, moment, str(each.last_sequence), one_line(each.title))
            screen.print_line("\t".join(fields))
        return
    table = _table("conversation", "last turn", "messages", "title")
    for each in conversations:
        table.add_row(each.conversation_id, *_cells(each))
    _show(screen, table, "No conversations yet.")


def show_conversation(screen: Screen, conversation: parts.Conversation) -> None:
    """Show what is known of one conversation, with a name for each value."""

    def when(timestamp: Timestamp) -> str:
        iso = moment_of(timestamp).isoformat(timespec="seconds")
        return ago_of(timestamp) if screen.is_terminal else iso

    instructions = conversation.instructions
    values = [
        ("conversation", conversation.conversation_id),
        ("title", one_line(conversation.title, _WHOLE)),
        *(("label", harmless(f"{k}={v}")) for k, v in sorted(conversation.labels.items())),
        ("created", when(conversation.create_time)),
        ("last turn", when(conversation.update_time)),
        ("messages", str(conversation.last_sequence)),
        ("open turn", conversation.open_turn_id),
        ("revision", str(conversation.revision)),
        (
            "instructions",
            harmless(instructions) if screen.is_terminal else one_line(instructions, _WHOLE),
        ),
    ]
    if not screen.is_terminal:
        for name, value in values:
            screen.print_line(f"{name}\t{value}")
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value in values:
        if value:
            table.add_row(Text(name, style="dim"), Text(value))
    screen.show(table, fits=True)


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
            no_wrap=True,
            justify="right" if name == "messages" else "left",
            overflow="ellipsis" if name in ("title", "address") else "fold",
        )
    return table


def _cells(conversation: parts.Conversation) -> tuple[str | Text, ...]:
    title = Text(one_line(conversation.title))
    if conversation.open_turn_id:
        title = Text("(being answered) ", style="dim") + title
    return ago_of(conversation.update_time), str(conversation.last_sequence), title


def _show(screen: Screen, table: Table, instead: str) -> None:
    if table.row_count:
        screen.show(table, fits=True)
    else:
        screen.hint(instead)
