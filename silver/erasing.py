"""Erasures of a range of the log: found before anything is masked, done once its rows are in silver.

An erasure counts once, at the first position where its id stands in a sound record; so does admission. What came before
it has a key of its own (`personal.py`), which is destroyed before the range's balance is written: a pass that ends in
between does the range again, and finds the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import delta, trail
from lakehouse.contracts import silver
from lakehouse.crypto import Digests, Tokens, up_to
from lakehouse.data_keys import DataKeys
from lakehouse.key_store import KeyName
from lakehouse.keys import KeySource, source
from lakehouse.registry import registry
from lakehouse.settings import Settings
from silver.personal import subject_key
from silver.sound import sound

Batches = Iterable[pa.RecordBatch]

KIND = "erasure"
FOUND = "offset bigint, erasure_id string, customer_token string, former_tokens array<string>"


@dataclass(frozen=True, order=True)
class Erasure:
    """One erasure of one partition of the log."""

    offset: int
    erasure_id: str
    customer_token: str
    former_tokens: tuple[str, ...] = ()
    """The customer's tokens of the key versions before."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """All names of the customer up to here."""
        return (*self.former_tokens, self.customer_token)

    @staticmethod
    def of(row: Mapping[str, Any]) -> "Erasure":
        """The erasure of a row of silver, or of one that `looking` found."""
        return Erasure(row["offset"], row["erasure_id"], row["customer_token"], tuple(row["former_tokens"] or ()))


def looking(keys: KeySource, schema_id: int, version: int) -> Callable[[Batches], Batches]:
    """A function for mapInArrow: sealed rows of erasures -> those that are sound, with the customer's tokens.

    `version` is that of the tokens where the rows lie.
    """

    def looked(batches: Batches) -> Batches:
        keyring, data_keys = keys.keyring(), DataKeys(keys)
        schema, digests = registry().by_id()[schema_id], Digests(keyring)
        *former, tokens = up_to(keyring, version)
        for rows in batches:
            found, good = sound(rows, schema, data_keys, digests)
            customers = [found.batch.texts("customer_id").get(row) for row in good]
            ids = [found.batch.texts(KIND + "_id").get(row).decode() for row in good]
            before = former_of(former, customers)
            yield pa.RecordBatch.from_pydict(
                {
                    "offset": rows.column("offset").take(pa.array(good, pa.int64())),
                    "erasure_id": pa.array(ids, pa.string()),
                    "customer_token": pa.array(tokens.texts("customer", customers), pa.string()),
                    "former_tokens": pa.array(before, pa.list_(pa.string())),
                }
            )

    return looked


def former_of(former: Sequence[Tokens], customers: Sequence[bytes]) -> list[list[str]]:
    """The tokens of every customer under the versions before, the oldest first."""
    by_version = [tokens.texts("customer", customers) for tokens in former]
    return [list(names) for names in zip(*by_version, strict=True)] if former else [[] for _ in customers]


def first_of_each(erasures: Iterable[Erasure]) -> list[Erasure]:
    """In the order of the log, every erasure id once."""
    first: dict[str, Erasure] = {}
    for one in sorted(erasures):
        first.setdefault(one.erasure_id, one)
    return list(first.values())


def by_customer(erasures: Iterable[Erasure]) -> dict[str, list[int]]:
    """Offsets by customer token, in order."""
    out: dict[str, list[int]] = {}
    for one in sorted(erasures):
        out.setdefault(one.customer_token, []).append(one.offset)
    return out


def held(root: str, topic_id: str, partition: int, before: int | None = None) -> list[Erasure]:
    """The erasures that silver holds of a partition, below a position."""
    here = delta.of_partition(topic_id, partition)
    if before is not None:
        here &= pc.field("offset") < before
    rows = delta.rows(root, silver.ERASURES, ["offset", "erasure_id", "customer_token", "former_tokens"], here)
    return first_of_each(map(Erasure.of, rows.to_pylist()))


def sources(root: str, erasure_id: str) -> set[tuple[str, int]]:
    """Topic ids and partitions in which silver holds an erasure."""
    rows = delta.rows(root, silver.ERASURES, ["topic_id", "partition"], pc.field("erasure_id") == erasure_id)
    return {(row["topic_id"], row["partition"]) for row in rows.to_pylist()}


def arrived(keys: KeySource, rows: DataFrame, schema_ids: Sequence[int], version: int) -> list[Erasure]:
    """The sound erasures among some rows of bronze, whose tokens are of one version."""
    found: list[Erasure] = []
    for schema_id in schema_ids:
        of_schema = rows.where(F.col("schema_id") == schema_id)
        columns = of_schema.select("topic_id", "partition", "offset", "broker_time", "sealed", "sealing_key")
        of_version = columns.mapInArrow(looking(keys, schema_id, version), FOUND)
        found += [Erasure.of(row.asDict()) for row in of_version.collect()]
    return found


def keys_of(topic_id: str, partition: int, erasures: Mapping[str, Sequence[int]], one: Erasure) -> list[KeyName]:
    """The keys that an erasure destroys: all generations before it, under every name that the customer had."""
    # A name of a version before has one generation more than erasures: what came between the last one and the switch.
    counts = {token: len(erasures.get(token, ())) + 1 for token in one.former_tokens}
    counts[one.customer_token] = erasures[one.customer_token].index(one.offset) + 1
    return [subject_key(topic_id, partition, token, n) for token, count in counts.items() for n in range(count)]


def carried_out(
    settings: Settings, topic_id: str, partition: int, known: Sequence[Erasure], now: Sequence[Erasure]
) -> int:
    """Destroy the keys of `now`, each on record first; how many keys that had one. `known` are all up to there."""
    data_keys = DataKeys(source(settings))
    by_token = by_customer(known)
    names_of = partial(keys_of, topic_id, partition, by_token)
    everything = {one: names_of(one) for one in now}
    wanted = sorted({name for names in everything.values() for name in names})
    there = data_keys.store.find(wanted) if data_keys.store.exists() else {}
    done = {name for name, key in there.items() if key.wrapped is None}
    for one, names in everything.items():
        if not done.issuperset(names):
            position = f"{topic_id}/{partition}/{one.offset}"
            told: trail.Details = {"by": position, "generations": len(names)}
            trail.record(settings, "personal.erased", one.customer_token, told)
    left = [name for name in wanted if name not in done]
    return len(data_keys.destroy(left)) if left else 0


def upheld(settings: Settings, root: str) -> int:
    """Destroy again what an older copy of the key store brought back; how many keys."""
    places = {
        (row["topic_id"], row["partition"])
        for row in delta.rows(root, silver.ERASURES, ["topic_id", "partition"]).to_pylist()
    }
    again = 0
    for topic_id, partition in sorted(places):
        erasures = held(root, topic_id, partition)
        again += carried_out(settings, topic_id, partition, erasures, erasures)
    return again
