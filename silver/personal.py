"""Which data key seals the personal record of a row, and the record opened again.

Everything of a customer that came between two of their erasures has one key: `personal_key` says `subject|g1`, topic
id, partition and customer token of the row say whose. Erasing destroys it, wherever copies of the row lie. A record
that names no customer has a key of its ingest day, `silver|2026-01-31|g1`, which goes with bronze's of that day.
"""

import os
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from lakehouse.crypto import BLOCK_BYTES, PersonalSeal, fernet_head
from lakehouse.data_keys import DataKeys, day_key_id, day_key_name, old_key_id
from lakehouse.key_store import KeyName

Erased = Mapping[str, Sequence[int]]
"""By customer token, the offsets of the erasures in one partition of the log, in order."""

Values = dict[str, str | None]
"""Personal fields of a row by name."""
Fields = Mapping[str, Sequence[str | None]]
"""Personal fields of many rows by name."""
Group = str | date | tuple[str, int]
"""Rows of one key: a customer's that were never erased, those that name nobody, a customer's of a generation."""

_SUBJECT = re.compile(r"subject\|g(\d{1,9})")


def generation(erased: Erased, token: str, offset: int) -> int:
    """Erasures of a customer before a position: what came before one never shares a key with what follows."""
    offsets = erased.get(token)
    return 0 if offsets is None else bisect_left(offsets, offset)


def subject_key(topic_id: str, partition: int, token: str, generation: int) -> KeyName:
    """The key of a customer in one partition of a log."""
    return KeyName("subject", f"{topic_id}/{partition}|{token}", generation)


def unnamed_key(ingested_on: date) -> KeyName:
    """The key of the records of a day that name no customer."""
    return KeyName("day", f"silver|{ingested_on.isoformat()}", 1)


def personal_key(name: KeyName) -> str:
    """How a row names it."""
    return f"subject|g{name.generation}" if name.kind == "subject" else day_key_id(name)


def key_of(row: Mapping[str, Any]) -> KeyName:
    """The key that a row of silver names; KeysMissing where it names none."""
    named = row["personal_key"]
    if found := _SUBJECT.fullmatch(named):
        return subject_key(row["topic_id"], row["partition"], row["customer_token"], int(found[1]))
    if named.startswith("silver|") and named.count("|") == 2:
        return day_key_name(named)
    raise old_key_id(named)


def opened(keys: DataKeys, table: str, row: Mapping[str, Any]) -> Values:
    """The personal values of a row of silver; KeyDestroyed once they were erased."""
    key = keys.key(key_of(row))
    return PersonalSeal(key).open(table, f"{row['topic_id']}/{row['partition']}/{row['offset']}", row["personal"])


class Sealer:
    """Seals the personal records of one table, each with the key of its customer."""

    def __init__(self, keys: DataKeys, table: str, erased: Erased) -> None:
        self._keys, self._table, self._erased = keys, table, erased
        self._known: dict[tuple[str, int], dict[Group, tuple[str, PersonalSeal | None]]] = {}
        """By topic id and partition the key id and seal of everybody who has been met; gone with the task."""

    def sealed(
        self, source: tuple[str, int], offsets: Sequence[int], whose: Sequence[str | date], fields: Fields
    ) -> tuple[list[str | None], list[str]]:
        """(sealed record, id of its key) of rows of one topic id and partition.

        `whose` are customer tokens, or the ingest day of a record that names nobody. Keys that never were are made. For
        a destroyed one nothing is sealed anew.
        """
        erased = self._erased
        # Most customers were never erased: then the token alone says which key.
        groups: Sequence[Group] = (
            [
                (one, generation(erased, one, at)) if isinstance(one, str) and one in erased else one
                for one, at in zip(whose, offsets, strict=True)
            ]
            if erased
            else whose
        )
        met = self._known.setdefault(source, {})
        met.update(self._meet(source, [one for one in dict.fromkeys(groups) if one not in met]))
        known = [met[group] for group in groups]
        table, place, columns = self._table, f"{source[0]}/{source[1]}/", list(fields)
        sealed: list[str | None] = []
        head, random = fernet_head(), os.urandom(BLOCK_BYTES * len(known))
        # A row's values are gathered when they are sealed: tens of thousands at a time keep the collector busy.
        rows = zip(known, offsets, zip(*fields.values(), strict=True), range(0, len(random), BLOCK_BYTES), strict=True)
        for (_, seal), at, values, block in rows:
            if seal is None:
                sealed.append(None)
                continue
            bound = dict(zip(columns, values, strict=True))
            sealed.append(seal.seal(table, f"{place}{at}", bound, head, random[block : block + BLOCK_BYTES]))
        return sealed, [key_id for key_id, _ in known]

    def _meet(self, source: tuple[str, int], groups: Sequence[Group]) -> dict[Group, tuple[str, PersonalSeal | None]]:
        names = {group: _name(*source, group) for group in groups}
        held = self._keys.provided(list(names.values()))
        return {
            group: (personal_key(name), None if (key := held[name]) is None else PersonalSeal(key))
            for group, name in names.items()
        }


def _name(topic_id: str, partition: int, group: Group) -> KeyName:
    if isinstance(group, date):
        return unnamed_key(group)
    token, number = group if isinstance(group, tuple) else (group, 0)
    return subject_key(topic_id, partition, token, number)
