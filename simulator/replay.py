"""Recorded payments through the same log: columns of a file become payments, its frauds become labels.

The recording has an id, a time, a customer, a terminal, an amount and whether it was fraud. What the log needs besides
follows the fixed rule of RULE; everything else stays empty, because it is not known.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.codec import Batch, Column
from lakehouse.errors import SettingsError
from lakehouse.registry import registry
from lakehouse.settings import Settings
from lakehouse.texts import Flags, Ints, Texts
from simulator.history import Files
from simulator.options import DAY_MS, DAY_S
from simulator.records import LABEL, PAYMENT, Records, concat, records
from simulator.sending import Report, Sender, partitions_of
from simulator.spelling import numbered_cards, prefixed_digits
from simulator.truth import Tally, iso, truth_rows, write_manifest, write_truth

FILE = "transactions.parquet"
COLUMNS = ("transaction_id", "tx_datetime", "customer_id", "terminal_id", "tx_amount", "tx_fraud")
SCENARIO = "tx_fraud_scenario"
SCENARIOS = ("", "amount_above_220", "compromised_terminal", "stolen_credentials")
"""Names of the handbook's scenarios 1 to 3; other numbers, or a file without the column: `recorded`."""
RECORDED = "recorded"
WEEK_MS = 7 * DAY_MS

RULE = (
    "Rule for what the recording lacks: transaction_id r- and the number in ten digits; customer_id rc-, merchant_id "
    "rm- and terminal_id rp- with eight digits each, the merchant being the terminal; card_number 400000, the "
    "customer's number in nine digits and the Luhn digit; amount_minor = round(100 x tx_amount), currency EUR, channel "
    "pos; event_time = received_at = tx_datetime read as UTC. All times are shifted by whole weeks so that the last "
    "payment falls into the week before --end. A fraud becomes a label (rl-, source chargeback, confidence 1) "
    "--delay-days after its payment; labels that would come after --end are not written."
)


@dataclass(frozen=True)
class Recording:
    """Recorded payments in order of (time, number), already shifted to their place before `end_ms`."""

    number: Ints
    at_ms: Ints
    customer: Ints
    terminal: Ints
    amount_minor: Ints
    is_fraud: Flags
    scenario: Ints
    end_ms: int

    def __len__(self) -> int:
        return len(self.number)


def _column(table: pa.Table, name: str, kind: pa.DataType) -> Any:
    column = table.column(name)
    if column.null_count:
        raise SettingsError(f"Column {name} of {FILE} has {column.null_count} empty values.", "Every row needs one.")
    return column.cast(kind).to_numpy()


def recorded(folder: Path, days: int | None, end_ms: int) -> Recording:
    """The last `days` days of a recording (None: all), shifted by whole weeks; SettingsError names what is missing."""
    path = folder / FILE
    if not path.exists():
        raise SettingsError(f"There is no {path}.", f"--data names a folder that holds {FILE}.")
    try:
        names = pq.read_schema(path).names
    except pa.ArrowInvalid:
        raise SettingsError(f"{path} is no Parquet file.", f"--data names a folder that holds {FILE}.") from None
    if missing := [name for name in COLUMNS if name not in names]:
        raise SettingsError(f"{path} lacks the columns {', '.join(missing)}.", f"It needs {', '.join(COLUMNS)}.")
    table = pq.read_table(path, columns=[*COLUMNS, *([SCENARIO] if SCENARIO in names else [])])
    if table.num_rows == 0:
        raise SettingsError(f"{path} holds no payment.", "Name another recording.")
    at = _column(table, "tx_datetime", pa.timestamp("ms")).astype(np.int64)
    last = int(at.max())
    if days is not None:
        kept = pc.greater(pa.array(at), last - days * DAY_MS)
        table, at = table.filter(kept), at[kept.to_numpy(zero_copy_only=False)]
    shift = (end_ms - last) // WEEK_MS * WEEK_MS
    number = _column(table, "transaction_id", pa.int64())
    fraud = _column(table, "tx_fraud", pa.int64()) != 0
    scenario = _column(table, SCENARIO, pa.int64()) if SCENARIO in names else np.zeros(len(at), np.int64)
    minor = np.round(_column(table, "tx_amount", pa.float64()) * 100).astype(np.int64)
    order = np.lexsort((number, at))
    found = Recording(
        number,
        at + shift,
        _column(table, "customer_id", pa.int64()),
        _column(table, "terminal_id", pa.int64()),
        minor,
        fraud,
        scenario,
        end_ms,
    )
    return _taken(found, order)


def _taken(found: Recording, rows: Ints) -> Recording:
    return Recording(
        found.number[rows],
        found.at_ms[rows],
        found.customer[rows],
        found.terminal[rows],
        found.amount_minor[rows],
        found.is_fraud[rows],
        found.scenario[rows],
        found.end_ms,
    )


def _word(word: str, n: int) -> Texts:
    return Texts.of([word]).take(np.zeros(n, np.int64))


def _shared(found: Recording) -> dict[str, Column]:
    return {
        "transaction_id": prefixed_digits("r-", found.number, 10),
        "card_number": numbered_cards(found.customer),
        "customer_id": prefixed_digits("rc-", found.customer, 8),
        "merchant_id": prefixed_digits("rm-", found.terminal, 8),
        "event_time": found.at_ms,
        "amount_minor": found.amount_minor,
        "currency": _word("EUR", len(found)),
    }


def _batch(kind: str, columns: dict[str, Column], n: int) -> Batch:
    # Fields that the recording lacks are empty.
    lacking = [f.name for f in registry().latest(kind).codec.fields if f.name not in columns]
    nothing: dict[str, Column] = dict.fromkeys(lacking, np.zeros(n, np.int64))
    return Batch(n, {**nothing, **columns}, dict.fromkeys(lacking, np.zeros(n, np.bool_)))


def _payments(found: Recording) -> Records:
    columns = _shared(found) | {
        "received_at": found.at_ms,
        "terminal_id": prefixed_digits("rp-", found.terminal, 8),
        "channel": _word("pos", len(found)),
    }
    order = found.number.astype(np.uint64)
    batch = _batch("payment", columns, len(found))
    return records(PAYMENT, batch, found.at_ms, order, found.customer, index=found.number)


def _labels(found: Recording, delay_ms: int) -> Records:
    n, available = len(found), found.at_ms + delay_ms
    columns = _shared(found) | {
        "label_id": prefixed_digits("rl-", found.number, 10),
        "is_fraud": np.ones(n, np.bool_),
        "source": _word("chargeback", n),
        "confidence": np.ones(n),
        "received_at": available,
        "label_available_at": available,
    }
    batch = _batch("label", columns, n)
    return records(LABEL, batch, available, found.number.astype(np.uint64), found.customer)


def log_of(found: Recording, delay_ms: int) -> Iterator[Records]:
    """The log of a recording in order, in pieces of a day."""
    if len(found) == 0:
        return
    known = np.flatnonzero(found.is_fraud & (found.at_ms + delay_ms <= found.end_ms))
    label_ms = found.at_ms[known] + delay_ms
    last = max(int(found.at_ms[-1]), int(label_ms[-1]) if len(label_ms) else 0)
    for day_ms in range(int(found.at_ms[0]) // DAY_MS * DAY_MS, last + 1, DAY_MS):
        low, high = np.searchsorted(found.at_ms, [day_ms, day_ms + DAY_MS])
        first, after = np.searchsorted(label_ms, [day_ms, day_ms + DAY_MS])
        yield concat(
            [_payments(_taken(found, np.arange(low, high))), _labels(_taken(found, known[first:after]), delay_ms)]
        ).in_order()


def truth_of(found: Recording) -> pa.Table:
    """The truth about a recording; an episode is a single payment."""
    named = np.where((found.scenario > 0) & (found.scenario < len(SCENARIOS)), found.scenario, len(SCENARIOS))
    scenario = np.where(found.is_fraud, named, 0)
    return truth_rows(prefixed_digits("r-", found.number, 10), scenario, found.number, (*SCENARIOS, RECORDED))


def send_recording(
    settings: Settings,
    found: Recording,
    delay_days: float,
    files: Files,
    progress: Callable[[float], Report],
    clock: Callable[[], float],
) -> str:
    """Send a recording; the summary line."""
    began = clock()
    sender = Sender(settings, progress(len(found) + float(found.is_fraud.sum())))
    tally = Tally()
    for piece in log_of(found, round(delay_days * DAY_S) * 1000):
        partition = None
        if sender.partitions > 1:
            partition = partitions_of(prefixed_digits("rc-", piece.customer, 8), sender.partitions)
        sender.send(piece.payload.to_list(), partition)
        tally.add(piece)
    sender.close()
    truth = truth_of(found)
    tally.frauds.update(n for n in truth.column("scenario").to_pylist() if n)
    if files.truth:
        write_truth(files.truth, [truth])
    if files.manifest:
        options = {"ends_at": iso(found.end_ms), "delay_days": delay_days}
        write_manifest(files.manifest, "replay", {"options": options, **tally.described()})
    return tally.summary(clock() - began)
