"""What the live part of a world will send and when: everything made before the first record is due.

Making records while sending them would let one disturb the other; a live part of 500 payments a second and ten minutes
is 300,000 payments, which fit in memory and take some seconds to make.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from lakehouse.avro import BOOLEAN, DOUBLE, STRING
from lakehouse.errors import SettingsError
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.texts import Flags, Ints
from simulator.options import SECOND_MS
from simulator.randomness import key_of, unit
from simulator.records import PAYMENT, Records, concat
from simulator.sending import partitions_of
from simulator.truth import Tally, truth_of
from simulator.world import World, between

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Score:
    """The live part, in the order of the log."""

    due_s: npt.NDArray[np.float64]
    """Real seconds after the beginning."""
    payload: list[bytes]
    partition: Ints
    payment: Flags
    transaction_id: list[str]
    """Of payments; empty for the others."""
    through_api: Flags
    body: dict[int, bytes]
    """JSON of the payments that go through the API, by row."""
    truth: pa.Table
    tally: Tally
    seconds: float
    """How long it takes."""


def bodies(payload: list[bytes]) -> list[bytes]:
    """Encoded payments as JSON: fields that have a value, timestamps in RFC 3339 with milliseconds, ISO dates."""
    schema = registry().latest("payment")
    raw = np.frombuffer(b"".join(payload), np.uint8)
    length = np.array([len(p) for p in payload], np.int64)
    end = np.cumsum(length)
    start = end - length
    batch = schema.codec.decode(raw, start + PREFIX_BYTES, end).batch
    logical = {f["name"]: _spelling(f["type"]) for f in schema.parsed["fields"]}
    rows: list[dict[str, Any]] = [{} for _ in payload]
    for field in schema.codec.fields:
        has = batch.has(field.name).tolist()
        if field.kind == STRING:
            values: list[Any] = [v.decode() for v in batch.texts(field.name).to_list()]
        else:
            values = batch.numbers(field.name).tolist()
            assert field.kind in (BOOLEAN, DOUBLE) or not values or isinstance(values[0], int)
        spell = logical[field.name]
        for row, value, there in zip(rows, values, has, strict=True):
            if there:
                row[field.name] = value if spell is None else spell(value)
    return [orjson.dumps(row) for row in rows]


def _spelling(declared: Any) -> Callable[[int], str] | None:
    kind = declared[1] if isinstance(declared, list) else declared
    logical = kind["logicalType"] if isinstance(kind, dict) else ""
    return {"timestamp-millis": _timestamp, "date": _date}.get(logical)


def _timestamp(ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _date(days: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=days)).isoformat()


def _through_api(records: Records, seed: int, share: float) -> Flags:
    # The same payments in every run: by a keyed hash of the transaction.
    chosen = unit(np.maximum(records.index, 0), key_of(seed, "api")) < share
    api: Flags = (records.kind == PAYMENT) & (records.index >= 0) & chosen
    return api


def score(made: World, api_share: float, partitions: int, skip_s: float = 0.0, seconds: float | None = None) -> Score:
    """`seconds` of a world's live part (default: all that is left), beginning `skip_s` after its start."""
    options = made.options
    begin_ms = options.live_from_ms + round(skip_s * options.pace * SECOND_MS)
    end_ms = options.end_ms if seconds is None else begin_ms + round(seconds * options.pace * SECOND_MS)
    if end_ms > options.end_ms:
        raise SettingsError(
            f"The live part of this world ends after {options.live_s:g} s.", "Begin a new world, or play less of it."
        )
    parts = list(between(made, begin_ms, end_ms))
    records = concat(parts)
    tally = Tally()
    tally.add(records)
    api = _through_api(records, options.seed, api_share)
    payload = records.payload.to_list()
    payment = records.index >= 0
    ids = [""] * len(records)
    rows = np.flatnonzero(payment).tolist()
    for row, text in zip(rows, made.ids.texts("transaction", records.index[payment]).to_list(), strict=True):
        ids[row] = text.decode()
    chosen = np.flatnonzero(api).tolist()
    return Score(
        due_s=(records.received_ms - begin_ms) / SECOND_MS / options.pace,
        payload=payload,
        partition=partitions_of(made.ids.texts("customer", records.customer), partitions),
        payment=payment,
        transaction_id=ids,
        through_api=api,
        body=dict(zip(chosen, bodies([payload[i] for i in chosen]), strict=True)),
        truth=truth_of(records, made.ids),
        tally=tally,
        seconds=(end_ms - begin_ms) / SECOND_MS / options.pace,
    )
