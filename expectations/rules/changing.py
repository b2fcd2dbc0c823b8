"""What travels as deltas: lists and suppressions. A delta adds and removes entries; adding one again replaces it.

    lists         {"add": [{"list": "block", "kind": "card", "token": "v1:...", "reason": "...", "expires_at": null}],
                   "remove": [{"list": "block", "kind": "card", "token": "v1:..."}]}
    suppressions  {"add": [{"customer": "v1:...", "rule": "card-burst", "reason": "...", "until": 1795000000000}],
                   "remove": [{"customer": "v1:...", "rule": "card-burst"}]}

Times are milliseconds of the engine's clock, which never goes back: what has expired may be forgotten at any time.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from expectations.rules import shapes
from expectations.rules.vocabulary import ENTITIES, LISTS
from lakehouse.errors import ControlRefused

Scope = Literal["lists", "suppressions"]
DELTA_SCOPES: tuple[Scope, ...] = ("lists", "suppressions")
MOST_CHANGES = 10_000
_NEVER = 2**62

Key = tuple[str, ...]
"""(kind, token, list) or (customer, rule)."""


def _list_key(where: str, entry: Mapping[str, Any]) -> Key:
    kind = shapes.one_of(f"{where}: kind", entry["kind"], ENTITIES)
    token = r"[^\x00-\x1f]{1,64}" if kind == "merchant" else shapes.TOKEN.pattern
    return (
        kind,
        shapes.text(f"{where}: token", entry["token"], token),
        shapes.one_of(f"{where}: list", entry["list"], LISTS),
    )


def _suppression_key(where: str, entry: Mapping[str, Any]) -> Key:
    return (
        shapes.text(f"{where}: customer", entry["customer"], shapes.TOKEN.pattern),
        shapes.text(f"{where}: rule", entry["rule"], r"[a-z][a-z0-9_-]{0,63}"),
    )


_KEYS = {"lists": (_list_key, ("list", "kind", "token")), "suppressions": (_suppression_key, ("customer", "rule"))}
_UNTIL = {"lists": "expires_at", "suppressions": "until"}


def _changes(scope: Scope, payload: str) -> Iterator[tuple[Key, tuple[str, int] | None]]:
    """Every key that a delta names, with (reason, until) where it is added; ControlRefused for a wrong delta."""
    content = shapes.loaded(scope, payload, ("add", "remove"))
    key, names = _KEYS[scope]
    until = _UNTIL[scope]
    for at, entry in enumerate(shapes.entries("remove", content["remove"], MOST_CHANGES), 1):
        yield key(f"remove {at}", shapes.shaped(f"remove {at}", entry, names)), None
    for at, entry in enumerate(shapes.entries("add", content["add"], MOST_CHANGES), 1):
        found = shapes.shaped(f"add {at}", entry, (*names, "reason", until))
        last = shapes.moment(f"add {at}: {until}", found[until], needed=scope == "suppressions")
        reason = shapes.text(f"add {at}: reason", found["reason"])
        yield key(f"add {at}", found), (reason, _NEVER if last is None else last)


def check_delta(scope: Scope, payload: str) -> None:
    """ControlRefused unless the delta is well formed and changes something."""
    if not list(_changes(scope, payload)):
        raise ControlRefused(f"The {scope} payload changes nothing.")


@dataclass
class Entries:
    """The entries of one scope, and where to find them."""

    scope: Scope
    by_key: dict[Key, tuple[str, int]] = field(default_factory=dict)
    by_token: dict[str, dict[bytes, dict[str, int]]] = field(default_factory=dict)
    """First part of the key (of suppressions: `customer`) -> token -> list or rule -> until when."""

    def take(self, payload: str) -> None:
        """Put a delta into force."""
        for key, value in _changes(self.scope, payload):
            self._put(key, value)

    def _put(self, key: Key, value: tuple[str, int] | None) -> None:
        kind, token, name = key if self.scope == "lists" else ("customer", *key)
        if value is not None:
            self.by_key[key] = value
            self.by_token.setdefault(kind, {}).setdefault(token.encode(), {})[name] = value[1]
        elif self.by_key.pop(key, None) is not None:
            tokens = self.by_token[kind]
            del tokens[token.encode()][name]
            if not tokens[token.encode()]:
                del tokens[token.encode()]
            if not tokens:
                del self.by_token[kind]

    def forget(self, clock_ms: int) -> None:
        """Drop what has expired."""
        for key in [key for key, (_, until) in self.by_key.items() if until <= clock_ms]:
            self._put(key, None)

    def saved(self) -> list[list[Any]]:
        """All entries, for a snapshot."""
        return [[*key, *value] for key, value in sorted(self.by_key.items())]

    def restore(self, saved: Iterable[list[Any]]) -> None:
        """Take over what a snapshot holds."""
        for row in saved:
            self._put(tuple(row[:-2]), (row[-2], row[-1]))
