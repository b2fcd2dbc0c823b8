"""One small world that went through bronze and silver, was run again, lost its checkpoints, and was repaired."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

import bronze.job
import silver.job
from lakehouse import broker as log
from lakehouse import topics
from lakehouse.contracts import bronze as bronze_tables
from lakehouse.contracts import silver as silver_tables
from lakehouse.jobs import Context, Interval
from lakehouse.settings import Settings
from lakehouse.tables import Table
from tests.conftest import NewContext, NewSettings
from tests.lakehouse.records import CARD, DAY, HOUR, OTHER_CARD, REFERENCE, SECOND, T0, raw, raw_control, signed

Rows = list[dict[str, Any]]
Headers = list[tuple[str, bytes | None]]
TABLES = (*bronze_tables.TABLES, *silver_tables.TABLES)

PERSON = {
    "card_number": OTHER_CARD,
    "customer_id": "Canary-Customer-17",
    "customer_email": "Canary.Person@mail.example",
    "billing_address": "17 Canary Street, Sparrowtown",
    "shipping_address": "18 Canary Street, Sparrowtown",
    "device_id": "canary-device-5",
    "ip_address": "203.0.113.77",
}
"""Values that may be nowhere in clear."""
ENTITIES = {name: PERSON[name] for name in ("card_number", "customer_id", "device_id", "ip_address")}


@dataclass(frozen=True)
class Sent:
    """A record as it was written to a topic."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers | None = None


def sent(keys_folder: Path) -> dict[str, Sent]:
    """The records of topic `events` by name, in the order of their offsets."""
    reference = signed(keys_folder)
    good = raw("payment", **PERSON)
    values: dict[str, bytes | Sent | None] = {
        "before the tables": raw("payment", transaction_id="t0"),
        "reference": raw_control(reference),
        "good": Sent(good, b"key", [("trace", b"7"), ("empty", None)]),
        "repeated": raw("payment", **PERSON, received_at=T0 + SECOND),
        "conflict": raw("payment", **PERSON, amount_minor=1251),
        "negative amount": raw("payment", **PERSON, transaction_id="t2", amount_minor=-1),
        "unknown currency": raw("payment", transaction_id="t3", currency="XXX"),
        "currency without rate": raw("payment", transaction_id="t4", currency="GBP"),
        "from the future": raw(
            "payment", transaction_id="t5", received_at=T0 + 36_500 * DAY, event_time=T0 + 36_500 * DAY
        ),
        "bad luhn": raw("payment", **{**PERSON, "transaction_id": "t6", "card_number": CARD[:-1] + "8"}),
        "truncated": good[:-2],
        "trailing byte": good + b"\x00",
        "unknown id": b"\x00\x00\x00\x00\x63" + good[5:],
        "no prefix": b'{"transaction_id": "t1"}',
        "tombstone": Sent(None, b"key"),
        "empty": b"",
        "other topic's kind": raw("engine_start"),
        "two rules": raw("payment", transaction_id="t7", channel="fax", currency="EUX"),
        "dollars": raw(
            "payment",
            transaction_id="t8",
            amount_minor=1000,
            currency="USD",
            merchant_country="NG",
            merchant_category_code=None,
        ),
        "late": raw("payment", transaction_id="t9", received_at=T0 - HOUR, event_time=T0 - HOUR),
        "authorisation": raw("authorisation", **ENTITIES),
        "label": raw("label", **ENTITIES),
        "reversed label": raw("label", label_id="l2", reverses="l1", label_available_at=T0 - DAY),
        "answer": raw("answer"),
        "outcome": raw("outcome"),
        "erasure": raw("erasure", customer_id=PERSON["customer_id"]),
        "staged": raw("staged"),
        "unsigned": raw_control(
            signed(keys_folder, version=2, previous_digest=reference.digest, control_id="c2", author_signature=b"")
        ),
        "unknown scope": raw("control", control_id="c3", scope="everything"),
    }
    return {name: value if isinstance(value, Sent) else Sent(value) for name, value in values.items()}


def sent_later(keys_folder: Path) -> dict[str, Sent]:
    """Records that come after the first run."""
    reference = signed(keys_folder)
    tables = {**REFERENCE, "rates_micro": {"EUR": 1_000_000, "USD": 900_000}}
    second = signed(keys_folder, payload=tables, version=2, previous_digest=reference.digest, control_id="c4")
    return {
        "repeated later": Sent(raw("payment", **PERSON, received_at=T0 + 2 * SECOND)),
        "second reference": Sent(raw_control(second, received_at=T0 + 3 * SECOND)),
        "dollars again": Sent(raw("payment", transaction_id="t10", amount_minor=1000, currency="USD")),
        "after the horizon": Sent(raw("payment", **PERSON, received_at=T0 + 48 * HOUR, event_time=T0 + 48 * HOUR)),
    }


def decided() -> list[bytes]:
    """Topic `decisions`: an engine, its successor, what the first one writes after its end, and repeats."""
    first = [raw("engine_start"), *(_decision(offset, epoch=0, latency_us=1) for offset in range(40))]
    again = [_decision(offset, epoch=0, latency_us=2) for offset in range(20, 40)]
    second = [raw("engine_start", engine_id="x2"), *(_decision(o, epoch=61, latency_us=3) for o in (38, 39, 40, 41))]
    fenced = [_decision(offset, epoch=0, latency_us=4) for offset in (40, 41, 42)]
    return [*first, *again, *second, *fenced, _decision(42, epoch=61, latency_us=5), b"not a decision"]


def shadowed() -> list[bytes]:
    """Topic `shadow`: an engine that began again repeats what it said."""
    said = ((4, "approve"), (5, "review"), (5, "review"), (6, "decline"))
    return [raw("shadow", offset=offset, outcome=outcome) for offset, outcome in said]


def _decision(offset: int, epoch: int, latency_us: int) -> bytes:
    return raw(
        "decision",
        offset=offset,
        epoch=epoch,
        latency_us=latency_us,
        transaction_id=f"t{offset}",
        rejected_by=["a", "b"],
    )


def produce(settings: Settings, topic: str, records: Sequence[Sent]) -> None:
    """Write records to partition 0 of a topic."""
    writer = log.producer(settings, linger_ms=5)
    name = topics.topic_name(settings, topic)
    for record in records:
        writer.produce(name, record.value, record.key, 0, headers=record.headers or [])
    assert writer.flush(20) == 0


def land(context: Context) -> None:
    """One scheduled run of bronze and silver."""
    bronze.job.run(context)
    silver.job.run(context)


def rows(root: str, table: Table) -> Rows:
    """All rows of a table, in the order of their positions."""
    path = table.path(root)
    found = DeltaTable(path).to_pyarrow_table().to_pylist() if DeltaTable.is_deltatable(path) else []
    return sorted(found, key=lambda r: tuple(r[name] for name in table.position or table.key))


Snapshot = Mapping[str, Rows]


def snapshot(root: str) -> Snapshot:
    """All rows of all tables."""
    return {table.name: rows(root, table) for table in TABLES}


def versions(root: str) -> dict[str, int]:
    """Delta's version of every table."""
    return {table.name: DeltaTable(table.path(root)).version() for table in TABLES}


@dataclass(frozen=True)
class World:
    """What was sent, and what the tables held at every stage."""

    settings: Settings
    context: Context
    sent: Mapping[str, Sent]
    first: Snapshot
    again: Snapshot
    versions: tuple[dict[str, int], dict[str, int]]
    """After the first and the second run."""
    lost: Snapshot
    """After the checkpoints were lost and more records came."""
    repaired: Snapshot
    """After offsets 3 to 12 were landed and admitted again."""

    def offset(self, name: str) -> int:
        """Where a record lies."""
        return list(self.sent).index(name)


@pytest.fixture(scope="session")
def world(
    broker: str, new_settings: NewSettings, context: NewContext, tmp_path_factory: pytest.TempPathFactory
) -> World:
    """The world after all of it."""
    settings = new_settings(tmp_path_factory.mktemp("world"))
    folder = settings.keys.folder
    now = context(settings)
    topics.ensure(settings)
    before, after = sent(folder), sent_later(folder)
    produce(settings, topics.EVENTS, list(before.values()))
    produce(settings, topics.DECISIONS, [Sent(value) for value in decided()])
    produce(settings, topics.SHADOW, [Sent(value) for value in shadowed()])
    land(now)
    first, first_versions = snapshot(now.root), versions(now.root)
    land(now)
    again, again_versions = snapshot(now.root), versions(now.root)
    shutil.rmtree(Path(now.root) / "_checkpoints")
    produce(settings, topics.EVENTS, list(after.values()))
    land(now)
    lost = snapshot(now.root)
    land(context(settings, Interval(3, 12)))
    repaired = snapshot(now.root)
    return World(settings, now, {**before, **after}, first, again, (first_versions, again_versions), lost, repaired)
