"""Checks of JSON payloads that several scopes share; ControlRefused names where and what."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from lakehouse.errors import ControlRefused

TOKEN = re.compile(r"v[0-9]{1,9}:[A-Za-z0-9_-]{24}")
LAST_MS = 7_258_118_400_000
"""The year 2200, as for the dates of admission."""


def loaded(what: str, payload: str, keys: Sequence[str]) -> dict[str, Any]:
    """The payload of a scope as an object with exactly these keys."""
    return loaded_with(what, payload, keys, ())


def loaded_with(what: str, payload: str, keys: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
    """The payload of a scope as an object with these keys, and perhaps with others that are optional."""
    try:
        content = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise ControlRefused(f"The {what} payload is not JSON.") from None
    given = [name for name in optional if isinstance(content, dict) and name in content]
    return shaped(f"The {what} payload", content, (*keys, *given))


def shaped(where: str, content: object, keys: Sequence[str]) -> dict[str, Any]:
    """An object with exactly these keys."""
    if not isinstance(content, dict) or set(content) != set(keys):
        raise ControlRefused(f"{where} must have exactly the keys {', '.join(keys)}.")
    return content


def text(where: str, value: object, pattern: str = r"[^\x00-\x1f]{1,200}") -> str:
    """A text that a pattern takes whole."""
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ControlRefused(f"{where} must be a text of the form {pattern}.")
    return value


def moment(where: str, value: object, needed: bool = False) -> int | None:
    """Milliseconds since 1970 or none."""
    if value is None and not needed:
        return None
    if type(value) is not int or not 0 <= value <= LAST_MS:
        raise ControlRefused(f"{where} must be milliseconds since 1970{'' if needed else ' or null'}.")
    return value


def entries(where: str, value: object, most: int) -> list[Any]:
    """A list that is not too long."""
    if not isinstance(value, list) or len(value) > most:
        raise ControlRefused(f"{where} must be a list of at most {most:,}.")
    return value


def one_of(where: str, value: object, known: Sequence[str] | Mapping[str, Any]) -> str:
    """One of some texts."""
    if not isinstance(value, str) or value not in known:
        raise ControlRefused(f"{where} must be one of {', '.join(known)}.")
    return value
