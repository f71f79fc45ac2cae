"""What users and tenants may be called, whoever names them."""

import re
from typing import TypeGuard

MAX_NAME_BYTES = 255

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def is_name(value: object) -> TypeGuard[str]:
    """Say whether a user or a tenant may be called this.

    Returns: True for a string of 1 to 255 bytes of UTF-8 that is not blank and has no control
        characters (Unicode's Cc) and no lone surrogates. Names are compared byte by byte.
    """
    if not isinstance(value, str) or not value.strip() or _CONTROL_CHARACTER.search(value):
        return False
    try:
        return len(value.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False
