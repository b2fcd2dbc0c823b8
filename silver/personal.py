"""Which data key seals the personal record of a row, and the record opened again.

Everything of a customer that came between two of their erasures has one key: `personal_key` says `subject|g1`, topic
id, partition and customer token of the row say whose. Erasing destroys it, wherever copies of the row lie. A record
that names no customer has a key of its ingest day, `silver|2026-01-31|g1`, which goes with bronze's of that day.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from lakehouse.crypto import PersonalSeal
from lakehouse.data_keys import DataKeys, day_key_id, day_key_name, old_key_id
from lakehouse.key_store import KeyName

Erased = Mapping[str, Sequence[int]]
"""By customer token, the offsets of the erasures in one partition of the log, in order."""

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


def opened(keys: DataKeys, table: str, row: Mapping[str, Any]) -> dict[str, str | None]:
    """The personal values of a row of silver; KeyDestroyed once they were erased."""
    key = keys.key(key_of(row))
    return PersonalSeal(key).open(table, f"{row['topic_id']}/{row['partition']}/{row['offset']}", row["personal"])


class Sealer:
    """Seals the personal records of a batch, each with the key of its customer."""

    def __init__(self, keys: DataKeys, erased: Erased) -> None:
        self._keys, self._erased = keys, erased

    def names(
        self, places: Sequence[tuple[str, int, int]], tokens: Sequence[str | None], days: Sequence[date]
    ) -> list[KeyName]:
        """The key of every row: places are (topic id, partition, offset)."""
        known: dict[tuple[str, int, str, int] | date, KeyName] = {}
        out = []
        for (topic_id, partition, offset), token, day in zip(places, tokens, days, strict=True):
            if token is None:
                name = known.get(day) or known.setdefault(day, unnamed_key(day))
            else:
                whose = (topic_id, partition, token, generation(self._erased, token, offset))
                name = known.get(whose) or known.setdefault(whose, subject_key(*whose))
            out.append(name)
        return out

    def seals(self, names: Sequence[KeyName]) -> dict[KeyName, PersonalSeal | None]:
        """The seals of these keys; those that never were are made. None for a destroyed key: nothing is sealed anew."""
        keys = self._keys.provided(list(set(names)))
        return {name: None if key is None else PersonalSeal(key) for name, key in keys.items()}
