"""Refused records enter the log again, mended or as they are, and are admitted like any other.

    python -m silver.resubmit list --reason amount_plausible
    python -m silver.resubmit send --offset 17 --changes mended.json
    python -m silver.resubmit send --reason no_reference_in_force --same

A repair is a new record at the end of the log, in a header of which the position stands that it repairs. It keeps the
`received_at` of the record it repairs unless another is given: the engine's clock does not move for what is long past.
Quarantine keeps its row; silver.repairs says what became of the repair. A position is repaired once: when its repair is
refused again, that one's position is repaired next. Nothing of a record's content is printed.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from confluent_kafka import Producer

from lakehouse import broker, delta, jobs, keys, topics, trail
from lakehouse import settings as conf
from lakehouse.agreement import agreed
from lakehouse.contracts import silver
from lakehouse.crypto import Digests, RecordSeal, Tokens, version_of
from lakehouse.data_keys import DataKeys
from lakehouse.envelope import REPAIRS, position, repaired_position, value_of
from lakehouse.errors import BrokerUnavailable, KeyDestroyed, KeyUnknown
from lakehouse.log import configure
from lakehouse.moments import now_ms
from lakehouse.settings import Settings
from lakehouse.spans import Span
from lakehouse.topics import EVENT_KINDS
from silver import erasing
from silver.emptying import customer_of
from silver.repairing import RepairRefused, changed, fields_of, reasons_to_refuse, record_of
from silver.repairs import QUARANTINED, Position

WAITING = "waiting"


@dataclass(frozen=True)
class Repair:
    """A record on the log that repairs a refused one."""

    at: Position
    payload_digest: bytes
    outcome: str
    """accepted, quarantined, duplicate, or waiting for silver."""


Repairs = Mapping[Position, Repair]


def _ends(settings: Settings) -> tuple[str, dict[int, int]]:
    """(topic id, by partition the first offset that silver has not seen)."""
    identity = topics.identify(settings, topics.EVENTS)
    ends = dict.fromkeys(range(identity.partitions), 0)
    for row in delta.rows(conf.lake_root(settings), silver.BALANCE, ["topic_id", "partition", "offset"]).to_pylist():
        if row["topic_id"] == identity.topic_id:
            ends[row["partition"]] = max(ends.get(row["partition"], 0), row["offset"] + 1)
    return identity.topic_id, ends


def _waiting(settings: Settings, digests: Digests) -> Iterator[tuple[Position, Repair]]:
    """Repairs on the log that silver has not seen."""
    topic_id, ends = _ends(settings)
    name = topics.topic_name(settings, topics.EVENTS)
    for partition, seen in ends.items():
        low, high = broker.watermarks(settings, name, partition)
        for messages in broker.batches(settings, name, partition, max(seen, low), high):
            for message in messages:
                repaired = repaired_position(message.headers() or ())
                if repaired is not None:
                    at = Position(topic_id, partition, message.offset())
                    yield Position.of(repaired), Repair(at, digests.payload(message.value() or b""), WAITING)


def repairs(settings: Settings, digests: Digests) -> Repairs:
    """The first repair of every position that has one, from silver and from the log behind it."""
    root = conf.lake_root(settings)
    names = [
        *("topic_id", "partition", "offset", "repaired_topic_id", "repaired_partition", "repaired_offset"),
        *("outcome", "payload_digest"),
    ]
    found: dict[Position, Repair] = {}
    for row in sorted(delta.rows(root, silver.REPAIRS, names).to_pylist(), key=lambda r: r["offset"]):
        repaired = Position(row["repaired_topic_id"], row["repaired_partition"], row["repaired_offset"])
        at = Position(row["topic_id"], row["partition"], row["offset"])
        found.setdefault(repaired, Repair(at, row["payload_digest"], row["outcome"]))
    for repaired, repair in _waiting(settings, digests):
        found.setdefault(repaired, repair)
    return found


def refused(root: str, reason: str | None, kind: str | None) -> list[dict[str, Any]]:
    """Rows of quarantine in the order of the log, without their content."""
    names = ["topic_id", "partition", "offset", "kind", "reasons", "broker_time", "run"]
    here = pc.field("kind") == kind if kind else None
    rows = delta.rows(root, silver.QUARANTINE, names, here).sort_by(
        [("partition", "ascending"), ("offset", "ascending")]
    )
    return [row for row in rows.to_pylist() if reason is None or reason in (r.split(":")[0] for r in row["reasons"])]


def row_at(settings: Settings, place: Position) -> dict[str, Any]:
    """A refused record as quarantine holds it, sealed; RepairRefused when it has no such position."""
    here = delta.within(Span(place.topic_id, place.partition, place.offset, place.offset + 1))
    rows = delta.rows(conf.lake_root(settings), silver.QUARANTINE, ["kind", "sealed", "sealing_key"], here).to_pylist()
    if not rows:
        raise RepairRefused(
            f"silver.quarantine has no record at offset {place.offset} of partition {place.partition}.",
            "`python -m silver.resubmit list` lists those it has.",
        )
    found: dict[str, Any] = rows[0]
    return found


def record_of_row(settings: Settings, place: Position, row: Mapping[str, Any]) -> bytes:
    """The bytes of a refused record; RepairRefused once it was purged, its key destroyed or its customer erased.

    What enters the log again behind an erasure is sealed with a key that the erasure did not destroy.
    """
    if not row["sealed"]:
        raise RepairRefused(
            f"The record at offset {place.offset} was purged with a customer's erasure.",
            "`python -m silver.erasure report` tells of it; all of it can be given anew: --event or --wire.",
        )
    try:
        seal = RecordSeal.opening(DataKeys(keys.source(settings)), row["sealing_key"])
    except (KeyDestroyed, KeyUnknown) as error:
        raise RepairRefused(
            f"The record at offset {place.offset} cannot be opened any more: {error}",
            "Give all of it anew: --event or --wire.",
        ) from None
    (sealed,) = seal.open([row["sealed"]], [position(place.topic_id, place.partition, place.offset)])
    value = value_of(sealed) or b""
    if (erasure_id := _erased_by(settings, place, value)) is not None:
        raise RepairRefused(
            f"The record at offset {place.offset} is of a customer who was erased after it, by erasure {erasure_id}.",
            "What it holds is not to come back; `python -m silver.erasure purge` empties it. What the customer gives "
            "anew: --event or --wire.",
        )
    return value


def _erased_by(settings: Settings, place: Position, value: bytes) -> str | None:
    """The first erasure behind a position of the customer whom the record there names, as far as silver knows."""
    customer = customer_of(value)
    if customer is None:
        return None
    known = erasing.held(conf.lake_root(settings), place.topic_id, place.partition)
    later = [one for one in known if one.offset > place.offset]
    keyring = keys.source(settings).keyring()
    versions = {version_of(token) for one in later for token in one.tokens}
    names = {token for version in versions for token in Tokens(keyring, version).texts("customer", [customer])}
    return next((one.erasure_id for one in later if names.intersection(one.tokens)), None)


def line(row: Mapping[str, Any], made: Repairs) -> str:
    """A row of quarantine for people: where, what, why, and what became of it."""
    place = Position(row["topic_id"], row["partition"], row["offset"])
    repair = made.get(place)
    state = "open" if repair is None else f"repaired at offset {repair.at.offset}: {repair.outcome}"
    when = f"{row['broker_time']:%Y-%m-%dT%H:%M:%SZ}"
    where = f"partition {place.partition} offset {place.offset:<10}"
    return f"{where} {when} {row['kind'] or '?':14} {', '.join(row['reasons']):40} {state}"


def sent(
    settings: Settings, place: Position, record: bytes, made: Repairs, digests: Digests, writer: Producer
) -> tuple[int, bool]:
    """(offset of the repair, whether it was written now); the same repair is on the log once.

    RepairRefused when the position has another repair, or when the record would be refused by its own content.
    """
    before = made.get(place)
    if before is not None:
        if before.payload_digest == digests.payload(record) and before.outcome != QUARANTINED:
            return before.at.offset, False
        do = "A position is repaired once."
        if before.outcome == QUARANTINED:
            do = f"That repair was refused too: repair offset {before.at.offset} instead."
        raise RepairRefused(f"Offset {place.offset} was repaired by offset {before.at.offset}, {before.outcome}.", do)
    if reasons := reasons_to_refuse(record, now_ms(), digests):
        raise RepairRefused(
            f"The record for offset {place.offset} would be refused again: {', '.join(reasons)}.",
            "Mend it with --changes, or mend the rule first.",
        )
    return _produced(settings, place, record, writer), True


def _produced(settings: Settings, place: Position, record: bytes, writer: Producer) -> int:
    name, header = topics.topic_name(settings, topics.EVENTS), (REPAIRS, str(place).encode())
    offset = broker.placed(settings, writer, name, place.partition, record, [header])
    if offset is None:
        raise BrokerUnavailable(f"The repair of offset {place.offset} was not acknowledged.", "Send it again.")
    return offset


def _record(settings: Settings, place: Position, arguments: argparse.Namespace) -> bytes:
    """What takes the place of a refused record, by the flags."""
    row = row_at(settings, place)
    if arguments.same:
        return record_of_row(settings, place, row)
    path = arguments.wire or arguments.event or arguments.changes
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RepairRefused(f"{path} cannot be read: {error.strerror}.", "Name a file.") from None
    if arguments.wire:
        return bytes(content)
    fields = fields_of(content, str(path))
    if arguments.changes:
        return changed(record_of_row(settings, place, row), fields)
    kind = arguments.kind or row["kind"]
    if kind is None:
        raise RepairRefused(f"Nobody knows what kind of record offset {place.offset} was.", "Say --kind.")
    return record_of(kind, fields)


def _run(arguments: argparse.Namespace) -> None:
    settings = conf.load(arguments.env)
    configure(settings, "resubmit")
    agreed(settings)
    digests = Digests(keys.source(settings).keyring())
    made = repairs(settings, digests)
    root = conf.lake_root(settings)
    if arguments.action == "list":
        for row in refused(root, arguments.reason, arguments.kind):
            print(line(row, made))
        return
    if arguments.reason:
        rows = refused(root, arguments.reason, arguments.kind)
        listed = [Position(row["topic_id"], row["partition"], row["offset"]) for row in rows]
        places = [place for place in listed if place not in made]
    else:
        places = [Position(topics.identify(settings, topics.EVENTS).topic_id, arguments.partition, arguments.offset)]
    writer, left = broker.producer(settings), 0
    for place in places:
        subject = f"{place.topic_id}/{place.partition}/{place.offset}"
        try:
            trail.record(settings, "record.opened", subject, {"by": "silver.resubmit"})
            offset, now = sent(settings, place, _record(settings, place, arguments), made, digests, writer)
        except RepairRefused as error:
            if not arguments.reason:
                raise
            left += 1
            print(f"offset {place.offset} is left as it is: {error}")
            continue
        if now:
            trail.record(settings, "record.resubmitted", subject, {"at_offset": offset})
        print(f"offset {place.offset} {'enters the log again' if now else 'is on the log'} at offset {offset}")
    if left:
        raise RepairRefused(
            f"{left} of {len(places)} records could not be repaired like this.", "See above, one by one."
        )


def main(argv: Sequence[str]) -> int:
    """List refused records, or let them enter the log again."""
    parser = argparse.ArgumentParser(
        prog="python -m silver.resubmit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="refused records, with their reasons and what became of them")
    sending = actions.add_parser("send", help="write a repair to the log")
    which = sending.add_mutually_exclusive_group(required=True)
    which.add_argument("--offset", type=int, help="the refused record")
    which.add_argument("--reason", metavar="NAME", help="every refused record that has this reason and no repair yet")
    sending.add_argument("--partition", type=int, default=0)
    how = sending.add_mutually_exclusive_group(required=True)
    how.add_argument("--same", action="store_true", help="the same bytes: a rule or a reference table was mended")
    how.add_argument("--changes", type=Path, metavar="FILE", help="JSON of the fields that change; the others are kept")
    how.add_argument("--event", type=Path, metavar="FILE", help="JSON of the whole event")
    how.add_argument("--wire", type=Path, metavar="FILE", help="the record's bytes, Confluent prefix included")
    listing.add_argument("--reason", metavar="NAME", help="only those that were refused for it")
    for action in (listing, sending):
        action.add_argument("--kind", choices=EVENT_KINDS, help="only of this kind; of an unknown one with --event")
        action.add_argument("--env", help="environment: conf/<env>.yml (default FRAUDLAKE_ENV, else local)")
    arguments = parser.parse_args(argv)
    if arguments.action == "send" and arguments.reason and not (arguments.same or arguments.changes):
        sending.error("--event and --wire are one record: name its --offset")
    return jobs.guarded(lambda: _run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
