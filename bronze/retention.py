"""Destroys the keys of days that bronze.retention_d has passed, and takes their rows out of bronze.

    python -m bronze.retention          what would be destroyed
    python -m bronze.retention --do     destroy it; once a day

A destroyed key takes with it what it sealed, wherever copies lie: old versions of bronze, rows of silver.quarantine,
personal records of silver that name no customer. A day that silver has not taken as a whole waits for it (exit code 1).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import orjson
import pyarrow.compute as pc
from deltalake import CommitProperties

from lakehouse import delta, jobs, keys, storage, trail
from lakehouse import settings as conf
from lakehouse.contracts import bronze, silver
from lakehouse.data_keys import DataKeys
from lakehouse.expired import EXPIRED, expired_ends
from lakehouse.key_store import KeyName
from lakehouse.log import configure
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from lakehouse.tables import Table

TAKEN_BY: Mapping[str, Table] = {
    bronze.EVENTS.name: silver.BALANCE,
    bronze.DECISIONS.name: silver.DECISIONS,
    bronze.SHADOW.name: silver.SHADOW,
}
"""The table that says how far silver has come."""


@dataclass(frozen=True)
class Day:
    """A day whose retention has passed: its keys that are still there, its rows by table."""

    day: date
    keys: tuple[KeyName, ...]
    rows: Mapping[str, int]
    ends: Mapping[str, Mapping[str, int]]
    """By table and partition, the offset after the last of its rows."""
    waits_for: tuple[str, ...]
    """Tables of bronze of which silver has not taken all of the day."""

    def text(self) -> str:
        """One line for people."""
        rows = ", ".join(f"{count} rows of {name}" for name, count in self.rows.items() if count) or "no rows"
        if self.waits_for:
            return f"{self.day}: waits, silver has not taken all of {', '.join(self.waits_for)}: run silver.job first"
        return f"{self.day}: {len(self.keys)} keys and {rows}"


def expired(settings: Settings, today: date) -> list[Day]:
    """The days older than the retention of which a key or a row is left, oldest first."""
    limit = today - timedelta(days=settings.bronze.retention_d)
    root = conf.lake_root(settings)
    by_day: dict[date, list[KeyName]] = {}
    store = DataKeys(keys.source(settings)).store
    for key in store.all("day") if store.exists() else []:
        day = date.fromisoformat(key.name.id.split("|")[1])
        if key.wrapped is not None and day < limit:
            by_day.setdefault(day, []).append(key.name)
    found = {table.name: _rows(root, table, limit) for table in bronze.TABLES}
    for days in found.values():
        for day in days:
            by_day.setdefault(day, [])
    done = {name: storage.written_ends(root, table) for name, table in TAKEN_BY.items()}
    out = []
    for day, names in sorted(by_day.items()):
        ends = {name: days[day][1] for name, days in found.items() if day in days}
        waits = (
            name
            for name, parts in ends.items()
            if any(end > done[name].get(partition, 0) for partition, end in parts.items())
        )
        rows = {name: days[day][0] for name, days in found.items() if day in days}
        out.append(Day(day, tuple(names), rows, ends, tuple(waits)))
    return out


def _rows(root: str, table: Table, limit: date) -> dict[date, tuple[int, dict[str, int]]]:
    """By day before the limit: how many rows, and the offset after the last one of each partition."""
    columns = ["ingest_date", "topic_id", "partition", "offset"]
    rows = delta.rows(root, table, columns, pc.field("ingest_date") < limit)
    grouped = rows.group_by(columns[:3]).aggregate([("offset", "count"), ("offset", "max")])
    out: dict[date, tuple[int, dict[str, int]]] = {}
    for row in grouped.to_pylist():
        count, ends = out.get(row["ingest_date"], (0, {}))
        ends[f"{row['topic_id']}/{row['partition']}"] = row["offset_max"] + 1
        out[row["ingest_date"]] = count + row["offset_count"], ends
    return out


def destroy(settings: Settings, day: Day) -> None:
    """Take a day's rows out of bronze and destroy its keys, on record first; the next run ends what a crash leaves."""
    root = conf.lake_root(settings)
    trail.record(settings, "bronze.expired", day.day.isoformat(), {"keys": len(day.keys), **day.rows})
    for table in bronze.TABLES:
        if day.rows.get(table.name):
            told = {EXPIRED: _latest(expired_ends(delta.opened(root, table)), day.ends[table.name])}
            properties = CommitProperties({"userMetadata": orjson.dumps(told).decode()})
            delta.opened(root, table).delete(f"ingest_date = '{day.day.isoformat()}'", commit_properties=properties)
            delta.followed(root, table)
    if day.keys:
        DataKeys(keys.source(settings)).destroy(day.keys)


def _latest(before: Mapping[str, int], ends: Mapping[str, int]) -> dict[str, int]:
    """The later ones of both."""
    return {key: max(before.get(key, 0), ends.get(key, 0)) for key in {*before, *ends}}


def _run(settings: Settings, do: bool) -> int:
    days = expired(settings, datetime.now(UTC).date())
    print(*(day.text() for day in days), sep="\n", end="\n" if days else "")
    ready = [day for day in days if not day.waits_for]
    if do and ready:
        with recorded(settings, "bronze.retention", "retention", days=len(ready)):
            for day in ready:
                destroy(settings, day)
    print(f"{len(ready)} days {'destroyed' if do else 'to be destroyed'}, {len(days) - len(ready)} wait for silver")
    return int(len(ready) < len(days))


def main(argv: Sequence[str]) -> int:
    """Destroy what is older than bronze.retention_d, or say what would be."""
    parser = argparse.ArgumentParser(
        prog="python -m bronze.retention", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    parser.add_argument("--do", action="store_true", help="destroy; without it, only say what would be")
    given = parser.parse_args(argv)
    waiting: list[int] = []

    def work() -> None:
        settings = conf.load(given.env)
        configure(settings, "retention")
        waiting.append(_run(settings, given.do))

    return jobs.guarded(work) or sum(waiting)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
