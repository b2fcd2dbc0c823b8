"""The fields of a payment alone do not tell fraud: history does.

Every field of the schema is used as it lies in the record: numbers, codes of the categorical ones, which are missing,
local parts of the time, ages of account and card. Ids and addresses are left out; test_ids.py looks at them.
"""

import numpy as np
import numpy.typing as npt
import pytest
from simulated import END_MS, Log, log_of, words
from sklearn.metrics import average_precision_score
from sklearn.tree import DecisionTreeClassifier

from lakehouse.registry import registry
from simulator.options import Options

NAMES = {
    "transaction_id",
    "card_number",
    "customer_id",
    "customer_email",
    "billing_address",
    "shipping_address",
    "merchant_id",
    "terminal_id",
    "device_id",
    "ip_address",
}
MISSING = -999.0


def raw_fields(log: Log) -> npt.NDArray[np.float64]:
    batch, columns = log.payments, []
    at = batch.numbers("event_time")
    columns += [at // 3_600_000 % 24, (at // 86_400_000 + 3) % 7, batch.numbers("received_at") - at]
    for field in registry().latest("payment").parsed["fields"]:
        name, has = field["name"], batch.has(field["name"])
        columns.append(has)
        if name in NAMES or name in ("event_time", "received_at"):
            continue
        column = batch.columns[name]
        if not isinstance(column, np.ndarray):
            codes, which = np.unique(words(batch.texts(name)), return_inverse=True)
            columns.append(np.where(has, which, MISSING))
            if len(codes) <= 12:
                columns += [has & (which == code) for code in range(len(codes))]
        elif name.endswith("_on"):
            columns.append(np.where(has, at // 86_400_000 - column, MISSING))
        else:
            columns.append(np.where(has, column, MISSING))
    return np.column_stack(columns).astype(np.float64)


def average_precision(log: Log, depth: int) -> float:
    """Of a tree that learned from the first half of the log, on the second."""
    fields, half = raw_fields(log), len(log.fraud) // 2
    tree = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(fields[:half], log.fraud[:half])
    return float(average_precision_score(log.fraud[half:], tree.predict_proba(fields[half:])[:, 1]))


def test_a_small_tree_learns_nothing_from_the_fields_of_the_default_world(usual: Log) -> None:
    assert average_precision(usual, 3) < 0.1, f"seed {usual.options.seed}"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_small_tree_learns_little_from_the_fields_of_5000_frauds(crowded: Log, seed: int) -> None:
    log = crowded if seed == 1 else log_of(Options(END_MS, fraud_rate=0.026, seed=seed))
    assert log.fraud.sum() > 5_000
    assert average_precision(log, 3) < 0.2, f"seed {seed}"
    assert average_precision(log, 6) < 0.25, f"seed {seed}"
