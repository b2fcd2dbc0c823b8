"""The records of an erased customer are emptied at once, in every table and file that holds them sealed.

What silver admitted is found by the customer's tokens, what it refused by opening it, what repeats either by the first
offset. Rows, positions and digests stay. What a crash leaves half done, the same purge given again goes on with.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import delta, keys, purging, single, topics, trail
from lakehouse.contracts import bronze, silver
from lakehouse.crypto import Tokens, version_of
from lakehouse.data_keys import DataKeys
from lakehouse.envelope import open_values
from lakehouse.registry import PREFIX_BYTES, Schema, registry
from lakehouse.settings import Settings
from lakehouse.spans import Span
from lakehouse.texts import Texts
from silver import shortening
from silver.erasing import Erasure
from silver.erasure_report import PERSONAL

_SEALED = ["topic_id", "partition", "offset", "sealed", "sealing_key"]


def records_of(settings: Settings, root: str, topic_id: str, partition: int, one: Erasure) -> dict[str, list[int]]:
    """By table that holds records sealed, the offsets of a customer's up to an erasure, and of what repeats them."""
    below = delta.within(Span(topic_id, partition, 0, one.offset + 1))
    mine = below & pc.field("customer_token").isin(pa.array(one.tokens, pa.string()))
    first = {
        (kind, offset)
        for kind, table in silver.BY_KIND.items()
        if table in PERSONAL
        for offset in delta.rows(root, table, ["offset"], mine).column("offset").to_pylist()
    }
    refused = set(_refused(settings, root, topic_id, partition, one))
    repeats = delta.rows(
        root, silver.DUPLICATES, ["offset", "kind", "first_offset"], delta.of_partition(topic_id, partition)
    ).to_pylist()
    again = {row["offset"] for row in repeats if (row["kind"], row["first_offset"]) in first}
    everywhere = sorted({offset for _, offset in first} | refused | again)
    return {silver.QUARANTINE.name: sorted(refused), bronze.EVENTS.name: everywhere}


def _refused(settings: Settings, root: str, topic_id: str, partition: int, one: Erasure) -> Iterator[int]:
    """Refused records that name the customer; of what cannot be decoded, those in whose bytes the id stands."""
    data_keys = DataKeys(keys.source(settings))
    tokens = Tokens(keys.source(settings).keyring(), version_of(one.customer_token))
    customer = _customer_id(root, topic_id, partition, one, data_keys)
    here = delta.within(Span(topic_id, partition, 0, one.offset + 1))
    for batch in delta.rows(root, silver.QUARANTINE, _SEALED, here).to_batches():
        for offset, value in zip(batch.column("offset").to_pylist(), open_values(batch, data_keys, {}), strict=True):
            named = customer_of(value)
            if tokens.texts("customer", [named])[0] == one.customer_token if named else _holds(value, customer):
                yield offset


def _customer_id(root: str, topic_id: str, partition: int, one: Erasure, data_keys: DataKeys) -> bytes | None:
    """The id that an erasure names, from its record; None once that cannot be opened."""
    here = delta.within(Span(topic_id, partition, one.offset, one.offset + 1))
    for batch in delta.rows(root, bronze.EVENTS, _SEALED, here).to_batches():
        for value in open_values(batch, data_keys, {}):
            schema = _schema(value)
            if schema is not None:
                return str(single.read(schema, value)["customer_id"]).encode()
    return None


def _schema(value: bytes) -> Schema | None:
    framed = len(value) >= PREFIX_BYTES and value[0] == 0
    return registry().by_id().get(int.from_bytes(value[1:PREFIX_BYTES], "big")) if framed else None


def customer_of(value: bytes) -> bytes | None:
    """The customer id of a record; None where it cannot be decoded, or names none."""
    schema = _schema(value)
    if schema is None:
        return None
    texts = Texts.of([value])
    found = schema.codec.decode(texts.buffer, texts.start + PREFIX_BYTES, texts.start + texts.length)
    if found.fault[0] or "customer_id" not in found.batch.columns:
        return None
    return found.batch.texts("customer_id").get(0) or None


def _holds(value: bytes, customer: bytes | None) -> bool:
    """Whether a customer's id stands in some bytes: as Avro writes a text, or as a word."""
    if customer is None:
        return False
    word = rb"(?<![\w-])" + re.escape(customer.strip()) + rb"(?![\w-])"
    return _as_text(customer) in value or re.search(word, value) is not None


def _as_text(value: bytes) -> bytes:
    """A text as Avro writes it: twice its length in groups of seven bits, the lowest first, then its bytes."""
    size, length = len(value) << 1, bytearray()
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*length, size]) + value


def purged(settings: Settings, root: str, topic_id: str, partition: int, one: Erasure) -> dict[str, list[int]]:
    """Empty everything of a customer up to an erasure; by table, the offsets that are empty now.

    On record before anything is changed; what was named before is named once.
    """
    source = topic_id, partition
    places = records_of(settings, root, topic_id, partition, one)
    known = named(root, one.erasure_id, source)
    new = {place: sorted({*offsets} - known.get(place, set())) for place, offsets in places.items()}
    if any(new.values()):
        position = f"{topic_id}/{partition}/{one.offset}"
        told: dict[str, str | int | None] = {"erasure_id": one.erasure_id, "by": position}
        trail.record(
            settings, "personal.purged", one.customer_token, told | {n: len(found) for n, found in new.items()}
        )
        purging.entered(root, topic_id, partition, one.erasure_id, new, datetime.now(UTC))
    whole = {place: sorted({*offsets} | known.get(place, set())) for place, offsets in places.items()}
    for table in purging.TABLES:
        if offsets := whole[table.name]:
            purging.emptied(root, table, source, offsets, one.erasure_id)
            purging.removed(root, table, source, offsets)
    return whole


def off_the_log(
    settings: Settings,
    root: str,
    topic_id: str,
    partition: int,
    one: Erasure,
    places: Mapping[str, Sequence[int]],
) -> None:
    """Shorten topic `events` by everything up to the customer's newest record."""
    records = places[bronze.EVENTS.name]
    if not records:
        return
    shortening.shortened(settings, topic_id, partition, max(records) + 1, one.customer_token)
    place = f"topic {topics.topic_name(settings, topics.EVENTS)}"
    new = {place: sorted({*records} - named(root, one.erasure_id, (topic_id, partition)).get(place, set()))}
    purging.entered(root, topic_id, partition, one.erasure_id, new, datetime.now(UTC))


def named(root: str, erasure_id: str, source: tuple[str, int]) -> dict[str, set[int]]:
    """By place, what a purge has named of a topic id and partition."""
    return {place: found.get(source, set()) for place, (found, _) in purging.asked(root, erasure_id).items()}
