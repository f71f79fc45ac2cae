"""What turns used, by day."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from parley_server.core.model.conversations import Usage


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which part of an owner's usage is asked for, and how it is summed up."""

    first_day: date | None = None
    """In UTC. None: 30 days before the last one."""
    last_day: date | None = None
    """In UTC. None: today, by the database's clock."""
    by_agent: bool = False
    by_label: str | None = None
    """The key of the label whose values are told apart. None: none is."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Only conversations that had all of these."""


class DayUsage(NamedTuple):
    """What was used on a day: by an agent, and with a label, if these are told apart."""

    day: date
    agent: str
    label_value: str
    usage: Usage
    turns: int
    """Those that were answered."""
    attempts: int
    failed_attempts: int
