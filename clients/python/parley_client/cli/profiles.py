"""Reads profiles from a file: named sets of defaults for options.

    default_profile = "work"

    [profiles.work]
    address = "parley.internal:443"
    token_command = "pass show parley"

A key is an option's name, with underscores. Options on the command line and environment variables
override it.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

MAX_TIMEOUT_S = 1_000_000_000
"""gRPC takes a deadline much later than this for one that is over."""
NONE = "none"
"""The name of the profile that sets nothing."""
_FILES = ("token_file", "ca_file", "cert_file", "key_file")
_TEXTS = ("address", "token", "token_command", "for_user", "agent", *_FILES)
_SWITCHES = ("plaintext", "plain", "input_history")
_KEYS = sorted((*_TEXTS, *_SWITCHES, "timeout"))

Profile = Mapping[str, Any]
"""Values by the names of the commands' parameters."""


class ConfigError(Exception):
    """The file or the chosen profile is not usable. The text says what to fix."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """The file's contents."""

    path: Path
    default: str
    by_name: Mapping[str, Profile]

    def named(self, name: str) -> Profile:
        """Return the profile of a name, or the default profile, or an empty one.

        Raises: ConfigError: no profile has this name.
        """
        name = name or self.default or NONE
        if name == NONE:
            return {}
        if name not in self.by_name:
            there = ", ".join(self.by_name) or "none"
            raise ConfigError(f"{self.path} has no profile {name!r}. The profiles are: {there}.")
        return self.by_name[name]


def read() -> Profiles:
    """Read the file that PARLEY_CONFIG_FILE names, or the user's own if it exists.

    Raises: ConfigError: it cannot be read, or a value in it is invalid.
    """
    given = os.environ.get("PARLEY_CONFIG_FILE")
    path = Path(given) if given else user_config_path("parley", appauthor=False) / "config.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if given:
            raise ConfigError(f"PARLEY_CONFIG_FILE names {path}, which does not exist.") from None
        return Profiles(path, "", {})
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return _parse(path, document)


def _parse(path: Path, document: Mapping[str, Any]) -> Profiles:
    _check_keys(path, "", document, ["default_profile", "profiles"])
    tables = document.get("profiles", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: profiles must be tables, such as [profiles.work].")
    by_name = {name: _parse_profile(path, name, table) for name, table in tables.items()}
    default = document.get("default_profile", "")
    if not isinstance(default, str):
        raise ConfigError(f"{path}: default_profile must be a profile's name.")
    if default not in ("", NONE, *by_name):
        raise ConfigError(f"{path}: default_profile is {default!r}, but no profile has this name.")
    return Profiles(path, default, by_name)


def _parse_profile(path: Path, name: str, table: Any) -> Profile:
    place = f"profiles.{name}"
    if name == NONE:
        raise ConfigError(f"{path}: {place}: {NONE!r} means no profile: choose another name.")
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {place} must be a table: [{place}].")
    _check_keys(path, f"{place}.", table, _KEYS)
    for key, value in table.items():
        if wanted := _wanted(key, value):
            raise ConfigError(f"{path}: {place}.{key} must be {wanted}, not {value!r}.")
    try:
        return {key: _located(path, each) if key in _FILES else each for key, each in table.items()}
    except RuntimeError:  # of a file name
        raise ConfigError(f"{path}: {place}: there is no such home folder as after a ~.") from None


def _check_keys(path: Path, place: str, table: Mapping[str, Any], keys: list[str]) -> None:
    for key in table:
        if key not in keys:
            close = get_close_matches(key, keys, 1)
            hint = f"Did you mean {close[0]}?" if close else f"The settings are: {', '.join(keys)}."
            raise ConfigError(f"{path}: {place}{key} is not a setting. {hint}")


def _wanted(key: str, value: Any) -> str:
    """Return what a value must be; empty: it is valid."""
    if key in _TEXTS:
        return "" if isinstance(value, str) and value else "text in quotes"
    if key in _SWITCHES:
        return "" if isinstance(value, bool) else "true or false"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 < value <= MAX_TIMEOUT_S:
        return ""
    return f"a number of seconds above 0, up to {MAX_TIMEOUT_S:,}"


def _located(path: Path, file: str) -> str:
    """Return a file's path: relative to the config file, with ~ as the home folder.

    Raises: RuntimeError: it begins with ~ and the name of no user.
    """
    return str(path.parent / Path(file).expanduser())
