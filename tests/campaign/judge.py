"""What became of every source position, counted over topic, bronze, silver, features and decisions."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from deltalake import DeltaTable

from lakehouse import broker, keys, topics
from lakehouse.contracts import bronze, gold, silver
from lakehouse.crypto import Digests
from lakehouse.settings import Settings
from lakehouse.tables import Table
from tests.integration import deciding

SILVER = (*silver.BY_KIND.values(), silver.QUARANTINE, silver.DUPLICATES)


@dataclass(frozen=True)
class Count:
    """One layer against what it should hold."""

    layer: str
    expected: int
    found: int
    lost: int
    doubled: int
    foreign: int
    """Positions, or values, that should not be there."""
    first: int | None
    """The lowest position that is wrong."""

    @property
    def good(self) -> bool:
        """Everything once and nothing else."""
        return self.lost == self.doubled == self.foreign == 0

    def described(self) -> dict[str, object]:
        """For the report."""
        return {**asdict(self), "good": self.good}


def counted(layer: str, found: Iterable[int], expected: Iterable[int]) -> Count:
    """Positions of a layer against those that it should hold, each once."""
    held, wanted = list(found), set(expected)
    distinct = set(held)
    wrong = (wanted - distinct) | (distinct - wanted)
    if len(distinct) != len(held):
        values, times = np.unique(np.array(held), return_counts=True)
        wrong |= set(values[times > 1].tolist())
    lost, foreign = len(wanted - distinct), len(distinct - wanted)
    doubled = len(held) - len(distinct)
    return Count(layer, len(wanted), len(held), lost, doubled, foreign, min(wrong, default=None))


def rows(settings: Settings, table: Table, *columns: str) -> list[dict[str, object]]:
    """Columns of a table's rows; none before it was made."""
    path = table.path(settings.lake.root)
    if not DeltaTable.is_deltatable(path):
        return []
    found: list[dict[str, object]] = DeltaTable(path).to_pyarrow_table(columns=list(columns)).to_pylist()
    return found


def positions(settings: Settings, table: Table) -> list[int]:
    """The positions of a table's rows."""
    assert table.position is not None
    name = table.position[2]
    return [row[name] for row in rows(settings, table, name)]  # type: ignore[misc]


def _different(layer: str, found: Mapping[int, object], expected: Mapping[int, object]) -> Count:
    wrong = [at for at, value in found.items() if at in expected and expected[at] != value]
    return Count(layer, len(expected), len(found), 0, 0, len(wrong), min(wrong, default=None))


def judged(settings: Settings) -> list[Count]:
    """The counts of every layer; positions are those of topic `events` unless the layer says otherwise."""
    name = topics.topic_name(settings, topics.EVENTS)
    low, end = broker.watermarks(settings, name, 0)
    digests = Digests(keys.source(settings).keyring())
    sent = {
        message.offset(): digests.payload(message.value() or b"")
        for batch in broker.batches(settings, name, 0, low, end)
        for message in batch
    }
    counts = [counted("topic", sent, range(low, end)), counted("bronze", positions(settings, bronze.EVENTS), sent)]
    landed = {row["offset"]: row["payload_digest"] for row in rows(settings, bronze.EVENTS, "offset", "payload_digest")}
    counts.append(_different("bronze: payload digests", landed, sent))  # type: ignore[arg-type]
    everywhere = [offset for table in SILVER for offset in positions(settings, table)]
    counts.append(counted("silver + quarantine + duplicates", everywhere, sent))
    paid = positions(settings, silver.PAYMENTS)
    counts.append(counted("features", positions(settings, gold.VECTORS), paid))
    decided = deciding.counted(settings)
    valid = [offset for offset, made in decided.items() if made["vector"] is not None]
    counts.append(counted("decisions of accepted payments", valid, paid))
    counts.append(counted("silver.decisions", positions_decided(settings), decided))
    made = rows(settings, gold.VECTORS, "offset", "vector")
    recomputed = {row["offset"]: np.array(row["vector"], np.float32).tobytes() for row in made}
    online = {offset: decided[offset]["vector"] for offset in valid}
    counts.append(_different("vectors: decided and recomputed", online, recomputed))  # type: ignore[arg-type]
    _, last = broker.watermarks(settings, topics.topic_name(settings, topics.DECISIONS), 0)
    counts.append(counted("bronze.decisions (its own offsets)", positions(settings, bronze.DECISIONS), range(last)))
    return counts


def positions_decided(settings: Settings) -> list[int]:
    """Source positions of the decisions in silver."""
    return [row["offset"] for row in rows(settings, silver.DECISIONS, "offset")]  # type: ignore[misc]


def table(counts: Iterable[Count]) -> list[str]:
    """Counts as a table for people."""
    out = [f"{'layer':38} {'expected':>9} {'found':>9} {'lost':>6} {'doubled':>8} {'foreign':>8}"]
    for one in counts:
        verdict = "" if one.good else f"   from {one.first}"
        out.append(
            f"{one.layer:38} {one.expected:9,} {one.found:9,} {one.lost:6,} {one.doubled:8,} {one.foreign:8,}{verdict}"
        )
    return out
