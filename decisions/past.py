"""Payments of the past as the engine had them: from silver, with features rebuilt, and what was in force at each.

A stretch ends where a control event lies that can change a decision, so everything in it was decided under the same
rules. Nothing but silver, the keys and, where there is one, a snapshot is needed: the log may be long gone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from decisions.accepted import Accepted
from decisions.stages import Stages
from expectations.control import InForce
from expectations.rules.changing import DELTA_SCOPES, Entries
from expectations.rules.vocabulary import PAYMENT_FIELDS
from features.past import parts, rebuilt
from features.preparing import batch_of
from lakehouse import delta, keys
from lakehouse.contracts import silver
from lakehouse.crypto import Tokens, up_to, version_of
from lakehouse.settings import Settings
from lakehouse.spans import Span
from lakehouse.texts import Flags, Ints, Texts

FIELDS = tuple(sorted({"transaction_id", *PAYMENT_FIELDS} - {"amount_base_minor"}))
"""Of silver.payments: what rules, the ladder and exploration look at beside features, amount and clock."""
TOKENS = {
    "card": "card_token",
    "customer": "customer_token",
    "device": "device_token",
    "ip": "ip_token",
    "email": "email_token",
}
_ACTING = ("lists", "model", "rules", "suppressions", "thresholds")
"""Scopes that change decisions; amounts are in silver as the reference tables of then had them."""


@dataclass(frozen=True)
class Named:
    """Whose payments they are, by the tokens in silver."""

    tokens: Mapping[str, Texts]
    has: Mapping[str, Flags]

    def texts(self, kind: str, tokens: Tokens) -> Texts:
        """The tokens, of the key version that they were made under."""
        return self.tokens[kind]


class Stretch(NamedTuple):
    """Payments that were decided under the same rules."""

    payments: Accepted
    offset: Ints
    event_ms: Ints
    in_force: InForce
    tokens: Sequence[Tokens]
    """Of the one key version that the payments and `in_force` name people by."""


class Past:
    """The payments of a span; `moved` is told the position behind every piece, also of those in front of the span."""

    def __init__(
        self,
        settings: Settings,
        root: str,
        span: Span,
        folders: Sequence[Path],
        stages: Stages,
        moved: Callable[[int], None] = lambda _offset: None,
    ) -> None:
        self._settings, self._root, self._span, self._folders = settings, root, span, folders
        self._stages, self._moved = stages, moved

    def stretches(self) -> Iterator[Stretch]:
        """The payments in the order of the log; `in_force` moves on with the next stretch."""
        keyring = keys.source(self._settings).keyring()
        control = _control(self._root, replace(self._span, start=0))
        in_force = InForce(first_token_version=keyring.token_version)
        for part in parts(self._root, self._span):
            for piece in rebuilt(
                self._settings, self._root, part, self._folders, [*FIELDS, *TOKENS.values()], self._stages.done
            ):
                self._moved(piece.next_offset)
                if not piece.rows.num_rows:
                    continue
                offset = piece.rows.column("offset").to_numpy()
                while control and control[0]["offset"] < offset[0]:
                    in_force.fold([control.pop(0)], ())
                whole = _accepted(piece.rows, piece.vectors, piece.capped)
                event_ms = piece.rows.column("event_time").cast(pa.int64()).to_numpy() // 1000
                begin = 0
                while begin < len(offset):
                    acting = (int(c["offset"]) for c in control if c["scope"] in _ACTING)
                    end = int(np.searchsorted(offset, next(acting, offset[-1] + 1)))
                    at = np.arange(begin, end)
                    named = _renamed(self._root, in_force)
                    tokens = up_to(keyring, in_force.token_version)[-1:]
                    self._stages.done("prepare")
                    some = whole if len(at) == len(offset) else whole.taken(at)
                    yield Stretch(some, offset[begin:end], event_ms[begin:end], named, tokens)
                    begin = end
                    while control and begin < len(offset) and control[0]["offset"] < offset[begin]:
                        in_force.fold([control.pop(0)], ())


def in_force_behind(settings: Settings, root: str, span: Span) -> InForce:
    """What was in force behind a span, as silver has it."""
    in_force = InForce(first_token_version=keys.source(settings).keyring().token_version)
    in_force.fold(_control(root, replace(span, start=0)), ())
    return in_force


def _control(root: str, span: Span) -> list[dict[str, Any]]:
    names = ["offset", "scope", "version", "previous_digest", "payload"]
    found: list[dict[str, Any]] = (
        delta.rows(root, silver.CONTROL, names, delta.within(span)).sort_by("offset").to_pylist()
    )
    return found


def _accepted(rows: pa.RecordBatch, vectors: Any, capped: Flags) -> Accepted:
    tokens = batch_of(rows.select(list(TOKENS.values())))
    named = Named(
        {kind: tokens.texts(name) for kind, name in TOKENS.items()},
        {kind: tokens.has(name) for kind, name in TOKENS.items()},
    )
    own = batch_of(rows.select(["amount_base_minor", "engine_clock"]))
    numbers = own.numbers("amount_base_minor"), own.numbers("engine_clock"), vectors, capped
    return Accepted(batch_of(rows.select(list(FIELDS))), *numbers, named, np.arange(rows.num_rows))


def _renamed(root: str, in_force: InForce) -> InForce:
    """The same, with entries that name somebody by an older token under the later one too, as silver.token_map has it.

    Whoever is listed under an older token and has no record before the key was changed is not found in the map.
    """
    version = in_force.token_version
    if version == in_force.first_token_version:
        return in_force
    renamed: dict[str, Entries] = {}
    for scope in DELTA_SCOPES:
        entries = in_force.entries[scope]
        by_token = {kind: dict(tokens) for kind, tokens in entries.by_token.items()}
        for kind, tokens in entries.by_token.items():
            former = {} if kind == "merchant" else {t: t.decode() for t in tokens if version_of(t.decode()) < version}
            for old, new in _now(root, kind, former, version).items():
                by_token[kind][new] = {**tokens[old], **by_token[kind].get(new, {})}
        renamed[scope] = Entries(scope, entries.by_key, by_token)
    return replace(in_force, entries=renamed)


def _now(root: str, kind: str, former: dict[bytes, str], version: int) -> dict[bytes, bytes]:
    """Older tokens of a kind and what they are called under a version, of those that the map knows."""
    found: dict[bytes, bytes] = {}
    for step in range(min(map(version_of, former.values()), default=version) + 1, version + 1):
        before = pa.array(list(former.values()), pa.string())
        here = (pc.field("kind") == kind) & (pc.field("to_version") == step) & pc.field("old_token").isin(before)
        rows = delta.rows(root, silver.TOKEN_MAP, ["old_token", "new_token"], here).to_pylist()
        steps = {row["old_token"]: row["new_token"] for row in rows}
        former = {first: steps.get(token, token) for first, token in former.items()}
    for first, token in former.items():
        if version_of(token) == version:
            found[first] = token.encode()
    return found
