"""The published features by their published definition, in pandas; and payments in their format, as our records.

The definition is that of the Fraud Detection Handbook (Le Borgne and others, 2022), chapter 3: windows (t - n days, t]
that include the payment itself, and for terminals the same windows moved back by the 7 days that a label takes. Ours
exclude the payment and call a card's holder customer, a terminal merchant.
"""

import numpy as np
import pandas as pd

from features.inputs import Admitted, Placed, Whom, payments
from features.own import NEEDED
from features.records import FRAUD, LABELLED, empty
from features.windows import DAY_MS
from lakehouse.codec import Batch
from lakehouse.texts import Texts

DELAY_D = 7
WINDOWS_D = (1, 7, 30)
START = pd.Timestamp("2018-04-01")


def generated(seed, days=90):
    """Payments in the published format: gaps, whole days between payments, several in one second, dense terminals."""
    random = np.random.default_rng(seed)
    n = 6000
    second = np.sort(random.integers(0, days * 86_400, n))
    # Some payments are whole days (a window's length, or the delay's) after another one, to the second.
    who = random.zipf(1.4, n) % 60, random.zipf(1.4, n) % 40
    again, source = np.split(random.choice(n, n // 5 * 2, replace=False), 2)
    second[again] = second[source] + random.choice([1, 7, 8, 14, 30, 37], len(again)) * 86_400
    for column in who:
        column[again] = column[source]
    # Some payments come in pairs in the same second, of the same customer at the same terminal.
    twice = np.arange(0, n - 1, 15)
    for column in (second, *who):
        column[twice + 1] = column[twice]
    frame = pd.DataFrame({"second": second, "customer_id": who[0], "terminal_id": who[1]})
    frame = frame.sort_values("second", kind="stable").reset_index(drop=True)
    frame["tx_datetime"] = START + pd.to_timedelta(frame.pop("second"), unit="s")
    frame["tx_amount"] = np.round(random.exponential(50, n), 2)
    frame["tx_fraud"] = (random.random(n) < 0.1).astype(np.int8)
    frame["transaction_id"] = np.arange(n)
    return frame


def over(frame, key, column, days):
    """Sum of a column over (t - days, t] of a payment's key, the payment itself included, later ones excluded."""
    found = frame.groupby(key).rolling(pd.Timedelta(days=days), on="tx_datetime")[column].sum()
    out = np.empty(len(frame))
    out[np.argsort(frame[key].to_numpy(), kind="stable")] = found.to_numpy()
    return out


def definition(frame, far=1.0, near=1.0):
    """The 14 features of payments ordered by time; `far` and `near` move that edge of a window further back."""
    frame = frame.assign(one=1.0, minor=minor(frame).astype(np.float64), fraud=frame.tx_fraud.astype(np.float64))
    out = pd.DataFrame(
        {
            "tx_during_weekend": (frame.tx_datetime.dt.weekday >= 5).astype(int),
            "tx_during_night": (frame.tx_datetime.dt.hour <= 6).astype(int),
        }
    )
    for n in WINDOWS_D:
        count = over(frame, "customer_id", "one", n * far)
        out[f"customer_id_nb_tx_{n}day_window"] = count
        out[f"customer_id_avg_amount_{n}day_window"] = over(frame, "customer_id", "minor", n * far) / count / 100
        seen, frauds = (
            over(frame, "terminal_id", column, (DELAY_D + n) * far) - over(frame, "terminal_id", column, DELAY_D * near)
            for column in ("one", "fraud")
        )
        out[f"terminal_id_nb_tx_{n}day_window"] = seen
        out[f"terminal_id_risk_{n}day_window"] = np.where(seen > 0, frauds / np.maximum(seen, 1), 0)
    return out


def minor(frame):
    """Amounts in minor units: theirs are decimals."""
    return np.round(frame.tx_amount.to_numpy() * 100).astype(np.int64)


def placed(frame):
    """(payments, labels) as the kernel reads them: every fraud is labelled at once, to be known 7 days later."""
    n = len(frame)
    at_ms = frame.tx_datetime.to_numpy().astype("datetime64[ms]").astype(np.int64)
    absent = dict.fromkeys((*NEEDED, "merchant_id", "merchant_category_code"), np.zeros(n, np.int64))
    given = {
        "event_time": at_ms,
        "amount_minor": minor(frame),
        "channel": Texts.of(["pos"] * n),
        "merchant_id": Texts.of([f"terminal-{terminal}" for terminal in frame.terminal_id]),
        "seconds_late": np.zeros(n),
    }
    batch = Batch(n, absent | given, {name: np.zeros(n, np.bool_) for name in absent if name not in given})
    customer = frame.customer_id.to_numpy().astype(np.int64) + 1
    nobody, unknown = np.zeros(n, np.int64), np.full(n, np.nan)
    whom = Whom(customer, customer, nobody, nobody, nobody)
    offset = 2 * np.arange(n)
    events = payments(batch, whom, Admitted(offset, at_ms, minor(frame), unknown, unknown), unknown)
    fraud = np.flatnonzero(frame.tx_fraud.to_numpy())
    labels = empty(len(fraud))._replace(
        what=np.full(len(fraud), LABELLED, np.int8),
        event_ms=at_ms[fraud] + DELAY_D * DAY_MS,
        amount=events.records.amount[fraud],
        who=events.records.who[fraud],
        flags=np.full(len(fraud), FRAUD, np.uint8),
        label_id=fraud + 1,
    )
    return events, Placed(labels, offset[fraud] + 1, at_ms[fraud])
