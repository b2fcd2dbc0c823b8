"""What an erasure left where: rows of silver.erasure_report."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import delta, topics
from lakehouse.contracts import silver
from lakehouse.contracts.register import TABLES
from lakehouse.settings import Settings
from lakehouse.storage import Span
from lakehouse.tables import Table
from silver.erasing import Erasure

UNREADABLE, EXPIRES, KEPT = "unreadable", "expires", "kept"
PURGED = "purged"
"""Of a place that a purge has emptied: what the report says instead of `expires`; lake.purges has it."""
GROUND = (
    "Decisions about payments have to be explained and replayed as they were made; a token is a keyed digest, from "
    "which nobody comes back to a person without the key."
)
PERSONAL = tuple(t for t in silver.BY_KIND.values() if "personal" in t.column_names)
_OUTSIDE_OF_TABLES = ("topic decisions", "engine snapshots", "profile store")


def _counts(root: str, table: Table, span: Span, erasures: Sequence[Erasure]) -> Counter[Erasure]:
    """Rows of each erasure's customer up to the erasure itself."""
    tokens = pa.array(sorted({token for one in erasures for token in one.tokens}), pa.string())
    here = (
        delta.of_partition(span.topic_id, span.partition)
        & (pc.field("offset") < span.end)
        & pc.field("customer_token").isin(tokens)
    )
    rows = delta.rows(root, table, ["customer_token", "offset"], here)
    of: dict[str, list[int]] = {}
    for token, offset in zip(rows["customer_token"].to_pylist(), rows["offset"].to_pylist(), strict=True):
        of.setdefault(token, []).append(offset)
    return Counter({one: sum(o <= one.offset for token in one.tokens for o in of.get(token, ())) for one in erasures})


def expiry_of_day(settings: Settings, ingested_on: date) -> date:
    """The day on which the key of an ingest day is destroyed by bronze.retention."""
    return ingested_on + timedelta(days=settings.bronze.retention_d + 1)


def latest_day(root: str, table: Table, positions: Sequence[tuple[str, int, int]]) -> date | None:
    """The last day on which records that a table holds up to some erasures were landed; None where it holds none."""
    latest = []
    for topic_id, partition, offset in positions:
        here = delta.within(Span(topic_id, partition, 0, offset + 1))
        found = pc.max(delta.rows(root, table, ["ingested_at"], here).column("ingested_at")).as_py()
        latest += [] if found is None else [found.date()]
    return max(latest, default=None)


def places(
    settings: Settings,
    root: str,
    span: Span,
    erasures: Sequence[Erasure],
    times: Mapping[int, tuple[datetime, datetime]],
) -> list[dict[str, Any]]:
    """The rows of the report over some erasures; `times` are broker time and ingest time by offset."""
    counts = {table.name: _counts(root, table, span, erasures) for table in PERSONAL}
    out = []
    for one in erasures:
        at = {"topic_id": span.topic_id, "partition": span.partition, "offset": one.offset}
        who = {"erasure_id": one.erasure_id, "customer_token": one.customer_token}
        nothing = {"rows": None, "until": None, "ground": None}
        rows = {name: count[one] for name, count in counts.items()}
        out += [{**at, **who, **nothing, **place} for place in _of_one(settings, rows, *times[one.offset])]
    return out


def _of_one(
    settings: Settings, rows: Mapping[str, int], broker_time: datetime, ingested_at: datetime
) -> Iterator[dict[str, Any]]:
    for name, count in rows.items():
        holds = "personal records, sealed; in every version of the table"
        yield {"place": name, "holds": holds, "state": UNREADABLE, "rows": count}
    until = expiry_of_day(settings, ingested_at.date())
    sealed = "records as received, sealed with keys of their ingest days"
    yield {"place": "bronze.events", "holds": sealed, "state": EXPIRES, "until": until}
    yield {"place": silver.QUARANTINE.name, "holds": "refused " + sealed, "state": EXPIRES, "until": until}
    yield {
        "place": f"topic {topics.topic_name(settings, topics.EVENTS)}",
        "holds": "records in clear",
        "state": EXPIRES,
        "until": (broker_time + timedelta(hours=settings.kafka.events_retention_h)).date() + timedelta(days=1),
    }
    for table in TABLES.values():
        if any(name.endswith("_token") for name in table.column_names):
            told = {"rows": rows.get(table.name), "ground": GROUND}
            yield {"place": f"{table.name}, tokens", "holds": "tokens", "state": KEPT, **told}
    for place in _OUTSIDE_OF_TABLES:
        yield {"place": place, "holds": "tokens, or keys made of them", "state": KEPT, "ground": GROUND}
