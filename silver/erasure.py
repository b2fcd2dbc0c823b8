"""Asks for the erasure of a customer's personal data, and tells what became of it.

    python -m silver.erasure request --customer-id-file -      one customer id a line, from a file or standard input
    python -m silver.erasure report --erasure-id ID            --json for machines
    python -m silver.erasure purge --erasure-id ID             what is left sealed in the lake is emptied at once

A request is a record on topic `events`. silver.job destroys the customer's keys in the pass that takes it: what came
before it can then be read by nobody, in no version of a table. What comes after it is of a new key. Tokens stay, so
decisions can be replayed. Records as received go with the key of their ingest day, or at once with a purge. Customer
ids are read from a file, never from the command line, and are not printed.
"""

import argparse
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow.compute as pc

from expectations.switching import token_version
from lakehouse import broker, delta, jobs, keys, purging, single, storage, topics, trail
from lakehouse import settings as conf
from lakehouse.agreement import agreed
from lakehouse.contracts import silver
from lakehouse.crypto import Tokens
from lakehouse.data_keys import DataKeys
from lakehouse.errors import BrokerUnavailable, Terminal
from lakehouse.log import configure
from lakehouse.moments import now_ms
from lakehouse.registry import registry
from lakehouse.runs import recorded
from lakehouse.settings import Settings
from lakehouse.tables import Table
from silver import emptying, erasing
from silver.erasure_report import EXPIRES, KEPT, PURGED, UNREADABLE, expiry_of_day, latest_day

_SEALED = {table.name: table for table in purging.TABLES}
"""What holds records as received, sealed with keys of their ingest days."""


class ErasureRefused(Terminal):
    """A request names nobody, or silver has not seen the erasure that is asked for."""


def customers(text: str) -> list[str]:
    """The customer ids of a request, one a line."""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise ErasureRefused("There is no customer id in what was given.", "Write one a line.")
    return found


def request(settings: Settings, customer_id: str, erasure_id: str) -> list[int]:
    """Write an erasure to the log, once a partition; the offsets.

    The same erasure given again is a duplicate there and changes nothing.
    """
    identity = topics.identify(settings, topics.EVENTS)
    version = token_version(settings, conf.lake_root(settings), identity.topic_id, 0)
    (token,) = Tokens(keys.source(settings).keyring(), version).texts("customer", [customer_id.encode()])
    fields = {
        "erasure_id": erasure_id,
        "customer_id": customer_id,
        "received_at": now_ms(),
        "requested_by": trail.actor(),
    }
    record = single.written(registry().latest(erasing.KIND), fields)
    trail.record(settings, "erasure.requested", token, {"erasure_id": erasure_id})
    writer, offsets = broker.producer(settings), []
    for partition in range(identity.partitions):
        offset = broker.placed(settings, writer, identity.name, partition, record)
        if offset is None:
            raise BrokerUnavailable(
                f"Erasure {erasure_id} was not acknowledged.", f"Ask again with --erasure-id {erasure_id}."
            )
        offsets.append(offset)
    return offsets


def report(settings: Settings, erasure_id: str) -> dict[str, Any]:
    """What became of an erasure, as silver has it; ErasureRefused where it does not know it."""
    root = conf.lake_root(settings)
    rows = delta.rows(
        root, silver.ERASURE_REPORT, silver.ERASURE_REPORT.column_names, pc.field("erasure_id") == erasure_id
    ).to_pylist()
    if not rows:
        raise _unknown(erasure_id)
    first = min(rows, key=lambda row: (row["partition"], row["offset"]))
    partitions = sorted({(row["topic_id"], row["partition"], row["offset"]) for row in rows})
    return {
        "erasure_id": erasure_id,
        "customer_token": first["customer_token"],
        "positions": [f"{topic_id}/{partition}/{offset}" for topic_id, partition, offset in partitions],
        **_destroyed(settings, root, partitions),
        "places": sorted(
            _purged_too(settings, erasure_id, _landed_later(settings, partitions, _places(rows))), key=_by_state
        ),
    }


def purge(settings: Settings, erasure_id: str, shorten_log: bool) -> None:
    """Empty what the lake holds sealed of an erased customer; with `shorten_log` topic `events` ends before it too.

    ErasureRefused where silver has not done the erasure, RangeMissing where somebody needs the topic's records.
    """
    root = conf.lake_root(settings)
    ends = storage.written_ends(root, silver.BALANCE)
    known = [
        (topic_id, partition, one)
        for topic_id, partition in sorted(erasing.sources(root, erasure_id))
        for one in erasing.held(root, topic_id, partition)
        if one.erasure_id == erasure_id and one.offset < ends.get(f"{topic_id}/{partition}", 0)
    ]
    if not known:
        raise _unknown(erasure_id)
    with recorded(settings, "silver.erasure", "purge", erasure_id=erasure_id):
        for topic_id, partition, one in known:
            places = emptying.purged(settings, root, topic_id, partition, one)
            if shorten_log:
                emptying.off_the_log(settings, root, topic_id, partition, one, places)


def _unknown(erasure_id: str) -> ErasureRefused:
    return ErasureRefused(
        f"Silver has no erasure {erasure_id}.",
        "Is silver.job behind? `python -m silver.resubmit list --kind erasure` shows those that were refused.",
    )


def _destroyed(settings: Settings, root: str, positions: Sequence[tuple[str, int, int]]) -> dict[str, int | str | None]:
    """How many keys there were, how many are left, and when the last one was destroyed."""
    store = DataKeys(keys.source(settings)).store
    names = []
    for topic_id, partition, offset in positions:
        known = erasing.held(root, topic_id, partition)
        by_token = erasing.by_customer(known)
        names += [
            name
            for one in known
            if one.offset == offset
            for name in erasing.keys_of(topic_id, partition, by_token, one)
        ]
    found = store.find(names) if store.exists() else {}
    times = [key.destroyed_at for key in found.values() if key.destroyed_at is not None]
    last = datetime.fromtimestamp(max(times) / 1000, UTC).isoformat(timespec="seconds") if times else None
    return {"keys": len(names), "keys_left": len(names) - len(times), "destroyed_at": last}


def _places(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry a place, over all partitions."""
    out: dict[str, dict[str, Any]] = {}
    for row in rows:
        place = out.setdefault(row["place"], {name: row[name] for name in ("place", "state", "holds", "ground")})
        counted, until = place.get("rows"), place.get("until")
        place["rows"] = counted if row["rows"] is None else (counted or 0) + row["rows"]
        day = None if row["until"] is None else row["until"].isoformat()
        place["until"] = max(filter(None, (until, day)), default=None)
    return list(out.values())


def _landed_later(
    settings: Settings, positions: Sequence[tuple[str, int, int]], places: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The places; records that were landed again go with the key of the day on which that was."""
    root, out = conf.lake_root(settings), []
    for place in places:
        if (table := _SEALED.get(place["place"])) is not None and place["until"] is not None:
            day = latest_day(root, table, positions)
            later = None if day is None else expiry_of_day(settings, day).isoformat()
            place = {**place, "until": max(filter(None, (place["until"], later)))}
        out.append(place)
    return out


def _by_state(place: Mapping[str, Any]) -> tuple[int, str]:
    return (UNREADABLE, PURGED, EXPIRES, KEPT).index(place["state"]), place["place"]


def _purged_too(settings: Settings, erasure_id: str, places: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The places, with what a purge made of them, and what it could not reach."""
    root = conf.lake_root(settings)
    asked = purging.asked(root, erasure_id)
    tables = {table.name: table for table in purging.TABLES}
    for place in places:
        name = place["place"]
        offsets, since = asked.get(name, ({}, None))
        if since is None and name in tables and asked:
            since = min(at for _, at in asked.values())  # looked for, and nothing was there
        yield {**place, "purged_at": None} if since is None else _after(root, place, tables.get(name), offsets, since)
        if name in tables:
            yield from (
                {**place, "place": where, "holds": holds, "purged_at": None}
                for where, holds in purging.out_of_reach(root, tables[name])
            )


def _after(
    root: str, place: dict[str, Any], table: Table | None, offsets: Mapping[tuple[str, int], set[int]], since: datetime
) -> dict[str, Any]:
    rows = sum(map(len, offsets.values()))
    done = {**place, "state": PURGED, "rows": rows, "until": None, "purged_at": since.isoformat(timespec="seconds")}
    if table is None:
        return {
            **done,
            "holds": "records in clear, for no reader; the broker's file goes by then",
            "until": place["until"],
        }
    left = sum(purging.left(root, table, source, sorted(found)) for source, found in offsets.items())
    files = sum(len(purging.old_files(root, table, source, sorted(found))) for source, found in offsets.items())
    if not left and not files:
        return {**done, "holds": "rows without what was sealed"}
    holds = f"{left} of {rows} records and {files} old files, as its purge has not ended: give it again"
    return {**place, "holds": holds, "rows": left, "purged_at": None}


def text(found: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"erasure {found['erasure_id']} of customer {found['customer_token']}",
        f"{found['keys']} keys, {found['keys_left']} left, the last one destroyed at {found['destroyed_at']}",
    ]
    for place in found["places"]:
        rows = "" if place["rows"] is None else f", {place['rows']} rows"
        until = f" by {place['until']}" if place["until"] else ""
        until = f" {place['purged_at']}" if place["purged_at"] and not until else until
        lines.append(f"  {place['state'] + until:24} {place['place']}: {place['holds']}{rows}")
    grounds = sorted({place["ground"] for place in found["places"] if place["ground"]})
    return "\n".join([*lines, *(f"  kept because: {ground}" for ground in grounds)])


def _run(given: argparse.Namespace) -> None:
    settings = conf.load(given.env)
    configure(settings, "erasure")
    agreed(settings)
    if given.action == "purge":
        purge(settings, given.erasure_id, given.shorten_log)
    if given.action != "request":
        found = report(settings, given.erasure_id)
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() if given.json else text(found))
        return
    source = given.customer_id_file
    try:
        named = customers(sys.stdin.read() if source == "-" else Path(source).read_text())
    except OSError as error:
        raise ErasureRefused(f"{source} cannot be read: {error.strerror}.", "Name a file, or - for stdin.") from None
    if given.erasure_id and len(named) > 1:
        raise ErasureRefused("--erasure-id is of one customer, and several were given.", "Leave it out.")
    for customer_id in named:
        erasure_id = given.erasure_id or str(uuid.uuid4())
        offsets = request(settings, customer_id, erasure_id)
        print(f"erasure {erasure_id} is on the log at offset {', '.join(map(str, offsets))}")


def main(argv: Sequence[str]) -> int:
    """Write erasures to the log, report one, or purge what it left sealed."""
    parser = argparse.ArgumentParser(
        prog="python -m silver.erasure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    asking = actions.add_parser("request", help="write erasures to the log")
    asking.add_argument("--customer-id-file", required=True, metavar="FILE", help="one id a line; - is standard input")
    asking.add_argument("--erasure-id", help="to ask again for one that was not acknowledged (default: a new one)")
    telling = actions.add_parser("report", help="every place that held something, and what is left there")
    telling.add_argument("--erasure-id", required=True)
    telling.add_argument("--json", action="store_true", help="for machines")
    emptied = actions.add_parser(
        "purge",
        help="empty what the lake still holds sealed of the customer, then report",
        description="Empties what bronze and quarantine hold sealed of an erased customer, and deletes the files that "
        "held it: their versions from before cannot be read any more. Rows, positions and digests stay. Run it while "
        "no interval is done again; after a crash, give it again.",
    )
    emptied.add_argument("--erasure-id", required=True)
    emptied.add_argument(
        "--shorten-log",
        action="store_true",
        help="also delete from topic events everything up to the customer's newest record. Kafka deletes no single "
        "records: the log keeps less for EVERYBODY (others' records are untouched in bronze). Refused while bronze, "
        "silver or the engine's state is not past them; engines on other machines are not looked at",
    )
    emptied.add_argument("--json", action="store_true", help="for machines")
    for action in (asking, telling, emptied):
        action.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    given = parser.parse_args(argv)
    return jobs.guarded(lambda: _run(given))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
