"""The handbook's protocol, on payments that are written out."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import place
from benchmarks.handbook import test_rows as rows_of_test_week
from benchmarks.replayed import replayed
from features.catalogue import NAMES


def test_a_card_is_left_out_from_the_eighth_day_after_its_fraud():
    day, card = np.array([9, 10, 21, 22, 23, 24, 30]), np.array([1, 2, 1, 2, 1, 3, 3])
    fraud = np.array([True, True, False, False, False, False, True])
    # The week of days 21 to 27, training from day 7: both frauds are known on day 21.
    assert rows_of_test_week(day, card, fraud, 21).tolist() == [5]
    # From day 24 on, training begins on day 10: the fraud of day 9 blocks nobody, that of day 24 not before day 32.
    assert rows_of_test_week(day, card, fraud, 24).tolist() == [5, 6]


def test_a_fraud_blocks_its_card_eight_days_later_and_not_before():
    day, card = np.array([14, 21, 22]), np.array([1, 1, 1])
    assert rows_of_test_week(day, card, np.array([True, False, False]), 21).tolist() == [1]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """One customer and terminal, a payment a day at noon for 40 days; those of days 10 to 12 are frauds."""
    folder = tmp_path_factory.mktemp("recording")
    day = np.arange(40)
    frame = pd.DataFrame(
        {
            "transaction_id": day,
            "tx_datetime": pd.Timestamp("2018-04-01 12:00") + pd.to_timedelta(day, unit="D"),
            "customer_id": 3,
            "terminal_id": 5,
            "tx_amount": 12.5 + day,
            "tx_fraud": ((day >= 10) & (day < 13)).astype(np.int8),
        }
    )
    frame["tx_datetime"] = frame.tx_datetime.astype("datetime64[ms]")
    frame.to_parquet(folder / "transactions.parquet")
    with place.apart(folder / "place") as settings:
        yield replayed(settings, folder, 5)


def test_replayed_payments_see_labels_after_a_week_and_not_before(recording):
    known = recording.data.X[:, NAMES.index("merchant_fraud_count_30d")]
    # The first row is day 5; the label of day 10 comes at noon of day 17, behind the payment of that very moment.
    assert known[:13].tolist() == [0] * 13
    assert known[13:17].tolist() == [1, 2, 3, 3]


def test_replayed_payments_keep_their_order_amounts_and_labels(recording):
    data = recording.data
    assert len(data) == 35
    assert data.X[:, NAMES.index("amount_minor")].tolist() == [1250.0 + 100 * day for day in range(5, 40)]
    assert np.flatnonzero(data.is_fraud).tolist() == [5, 6, 7]
    assert data.fraud_known_at(int(data.event_ms[12])).sum() == 1
