from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulated import decoded, words

from lakehouse.errors import SettingsError
from simulator.job import instant
from simulator.records import LABEL, PAYMENT, concat
from simulator.replay import log_of, recorded, truth_of

DAY_MS = 86_400_000
END_MS = instant("2026-03-01T12:00:00Z")

ROWS = [
    # id, time, customer, terminal, amount, fraud, scenario; not in order of time
    (2, "2018-08-02T09:30:00.250", 4_242, 77, 12.34, 1, 2),
    (0, "2018-07-31T23:59:59", 5, 9_999, 0.5, 0, 0),
    (1, "2018-08-01T00:00:00", 4_242, 9_999, 220.005, 1, 1),
    (4, "2018-08-10T10:00:00", 5, 77, 3.0, 1, 3),
    (3, "2018-08-10T10:00:00", 6, 77, 2.0, 0, 0),
]
NAMES = ("transaction_id", "tx_datetime", "customer_id", "terminal_id", "tx_amount", "tx_fraud", "tx_fraud_scenario")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording of five payments, typed as the published one."""
    columns: list[Any] = [list(column) for column in zip(*ROWS, strict=True)]
    columns[1] = pa.array([datetime.fromisoformat(t) for t in columns[1]], pa.timestamp("ms"))
    kinds = (pa.int32(), None, pa.int32(), pa.int32(), pa.float64(), pa.int8(), pa.int8())
    arrays = [c if k is None else pa.array(c, k) for c, k in zip(columns, kinds, strict=True)]
    pq.write_table(pa.table(arrays, names=list(NAMES)), tmp_path / "transactions.parquet")
    return tmp_path


# The last payment is of Friday 10 August 2018; 394 weeks later it is Friday 27 February 2026, in the week before END.
SHIFT_MS = 394 * 7 * DAY_MS


def test_the_recording_is_shifted_by_whole_weeks_into_the_week_before_the_end(folder: Path) -> None:
    found = recorded(folder, None, END_MS)
    assert found.number.tolist() == [0, 1, 2, 3, 4]
    shifted = [instant(t) + SHIFT_MS for t in ("2018-07-31T23:59:59", "2018-08-01T00:00:00", "2018-08-02T09:30:00.250")]
    assert found.at_ms[:3].tolist() == shifted
    assert instant("2026-02-22T12:00:00") < found.at_ms[-1] <= END_MS
    assert found.at_ms[-1] == instant("2026-02-27T10:00:00Z")


def test_every_field_follows_the_fixed_rule(folder: Path) -> None:
    log = concat(list(log_of(recorded(folder, None, END_MS), 7 * DAY_MS)))
    payments = decoded("payment", log.take(log.kind == PAYMENT).payload)
    texts = {
        name: [t.decode() for t in payments.texts(name).to_list()]
        for name in (
            "transaction_id",
            "card_number",
            "customer_id",
            "merchant_id",
            "terminal_id",
            "currency",
            "channel",
        )
    }
    assert texts == {
        "transaction_id": ["r-0000000000", "r-0000000001", "r-0000000002", "r-0000000003", "r-0000000004"],
        "card_number": [
            "4000000000000051",
            "4000000000042426",
            "4000000000042426",
            "4000000000000069",
            "4000000000000051",
        ],
        "customer_id": ["rc-00000005", "rc-00004242", "rc-00004242", "rc-00000006", "rc-00000005"],
        "merchant_id": ["rm-00009999", "rm-00009999", "rm-00000077", "rm-00000077", "rm-00000077"],
        "terminal_id": ["rp-00009999", "rp-00009999", "rp-00000077", "rp-00000077", "rp-00000077"],
        "currency": ["EUR"] * 5,
        "channel": ["pos"] * 5,
    }
    assert payments.numbers("amount_minor").tolist() == [50, 22000, 1234, 200, 300]
    assert payments.numbers("event_time").tolist() == payments.numbers("received_at").tolist()
    lacking = {name for name in payments.valid if not payments.has(name).any()}
    assert set(payments.valid) - lacking == {"terminal_id"}


def test_frauds_become_labels_after_the_delay_and_not_after_the_end(folder: Path) -> None:
    log = concat(list(log_of(recorded(folder, None, END_MS), 7 * DAY_MS)))
    labels = decoded("label", log.take(log.kind == LABEL).payload)
    # The fraud of 27 February would be known on 6 March, after the end.
    assert words(labels.texts("label_id")).tolist() == [b"rl-0000000001", b"rl-0000000002"]
    assert words(labels.texts("transaction_id")).tolist() == [b"r-0000000001", b"r-0000000002"]
    assert (labels.numbers("label_available_at") - labels.numbers("event_time")).tolist() == [7 * DAY_MS] * 2
    assert labels.numbers("received_at").tolist() == labels.numbers("label_available_at").tolist()
    assert words(labels.texts("source")).tolist() == [b"chargeback"] * 2
    assert labels.numbers("is_fraud").tolist() == [True, True]
    assert labels.numbers("amount_minor").tolist() == [22000, 1234]
    assert (np.diff(log.received_ms) >= 0).all()


def test_only_the_last_days_are_sent_and_only_their_labels(folder: Path) -> None:
    found = recorded(folder, 9, END_MS)
    assert found.number.tolist() == [2, 3, 4]
    log = concat(list(log_of(found, DAY_MS)))
    assert log.kind.tolist() == [PAYMENT, LABEL, PAYMENT, PAYMENT, LABEL]


def test_the_truth_names_the_recorded_scenarios(folder: Path) -> None:
    rows = truth_of(recorded(folder, None, END_MS)).to_pylist()
    assert [row["scenario"] for row in rows] == [
        None,
        "amount_above_220",
        "compromised_terminal",
        None,
        "stolen_credentials",
    ]


def test_without_scenarios_frauds_are_just_recorded(folder: Path) -> None:
    path = folder / "transactions.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["tx_fraud_scenario"]), path)
    rows = truth_of(recorded(folder, None, END_MS)).to_pylist()
    assert [row["scenario"] for row in rows] == [None, "recorded", "recorded", None, "recorded"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"There is no .*/transactions\.parquet\. --data names a folder"):
        recorded(tmp_path, None, END_MS)


def test_a_missing_column_is_named(folder: Path) -> None:
    path = folder / "transactions.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["tx_amount", "tx_fraud"]), path)
    with pytest.raises(SettingsError, match="lacks the columns tx_amount, tx_fraud"):
        recorded(folder, None, END_MS)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "transactions.parquet").write_text("id,amount\n1,2\n")
    with pytest.raises(SettingsError, match="is no Parquet file"):
        recorded(tmp_path, None, END_MS)


def test_an_empty_value_is_refused(folder: Path) -> None:
    path = folder / "transactions.parquet"
    table = pq.read_table(path)
    amounts = pa.array([None, 1.0, 2.0, 3.0, 4.0])
    pq.write_table(table.set_column(table.column_names.index("tx_amount"), "tx_amount", amounts), path)
    with pytest.raises(SettingsError, match=r"Column tx_amount of transactions\.parquet has 1 empty values"):
        recorded(folder, None, END_MS)
