"""No id says anything about fraud: neither its form nor the order in which ids were issued.

What is measured, over all payments that carry the id, is how well a number ranks frauds above genuine payments (area
under the ROC curve; 0.5 is nothing):

* value: the id read as a number; for hash ids also as text, which is the same order;
* length and prefix: must be equal for all ids of a kind, so their area is exactly 0.5;
* order of issue: for transactions the row of the log, as each is issued when it is paid; for cards, customers,
  merchants and terminals the rank of the id's first appearance on the log.

A device's first appearance is left out of the 0.02: that a thief's device is new is the behaviour by which detection
lives, not a property of its id. It is bounded more loosely, so that new devices stay ordinary.
"""

import numpy as np
import numpy.typing as npt
import pytest
from simulated import Log, words

IDS = ("transaction_id", "customer_id", "merchant_id", "terminal_id", "device_id", "card_number")
PREFIXES = {
    "transaction_id": b"t-",
    "customer_id": b"c-",
    "merchant_id": b"m-",
    "terminal_id": b"p-",
    "device_id": b"d-",
}


def area(score: npt.NDArray[np.float64], fraud: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve (Mann-Whitney), ties counting half."""
    _, rank = np.unique(score, return_inverse=True)
    count = np.bincount(rank)
    middle = np.cumsum(count) - (count - 1) / 2
    n, m = int(fraud.sum()), int((~fraud).sum())
    return float((middle[rank][fraud].sum() - n * (n + 1) / 2) / (n * m))


def column(log: Log, name: str) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bool_]]:
    """(ids, truth) of the payments that carry the id, in the order of the log."""
    has = log.payments.has(name)
    return words(log.payments.texts(name).take(has)), log.fraud[has]


def test_the_area_of_a_perfect_and_of_an_empty_score() -> None:
    fraud = np.array([False, True, False, True])
    assert area(np.array([1.0, 3.0, 2.0, 4.0]), fraud) == 1.0
    assert area(np.zeros(4), fraud) == 0.5


@pytest.mark.parametrize("name", IDS)
def test_the_value_of_an_id_says_nothing(crowded: Log, name: str) -> None:
    ids, fraud = column(crowded, name)
    assert crowded.fraud.sum() > 5_000
    value = np.array([float(int(i)) if name == "card_number" else float(int(i[2:], 16)) for i in ids.tolist()])
    assert abs(area(value, fraud) - 0.5) <= 0.02, f"seed {crowded.options.seed}"


@pytest.mark.parametrize("name", PREFIXES)
def test_all_ids_of_a_kind_have_one_length_and_prefix(crowded: Log, name: str) -> None:
    ids, _ = column(crowded, name)
    assert {(len(i), i[:2]) for i in set(ids.tolist())} == {(18, PREFIXES[name])}


def test_the_range_of_a_card_says_nothing(crowded: Log) -> None:
    numbers, fraud = column(crowded, "card_number")
    ranges = np.array([n[:6] for n in numbers.tolist()])
    for name in np.unique(ranges):
        assert abs(area((ranges == name).astype(float), fraud) - 0.5) <= 0.02, f"{name} seed {crowded.options.seed}"


def first_seen(ids: npt.NDArray[np.bytes_]) -> npt.NDArray[np.float64]:
    """Of each row, how many other ids had appeared before its id did."""
    _, first, which = np.unique(ids, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which].astype(np.float64)


@pytest.mark.parametrize("name", ["transaction_id", "customer_id", "merchant_id", "terminal_id", "card_number"])
def test_the_order_of_issue_says_nothing(crowded: Log, name: str) -> None:
    ids, fraud = column(crowded, name)
    # A transaction's rank is its row. The others appear when somebody first pays with or at them: a shop with one
    # payment a week appears late, and whether fraud then strikes it is chance.
    allowed = 0.02 if name == "transaction_id" else 0.025
    assert abs(area(first_seen(ids), fraud) - 0.5) <= allowed, f"seed {crowded.options.seed}"


def test_new_devices_are_ordinary(crowded: Log) -> None:
    ids, fraud = column(crowded, "device_id")
    assert area(first_seen(ids), fraud) < 0.65
    appears = np.unique(ids, return_index=True)[1]
    late = appears[appears > len(ids) // 2]
    assert (~fraud[late]).mean() > 0.8  # devices that appear in the second half appear for honest reasons


def test_frauds_lie_evenly_over_the_whole_period(crowded: Log, usual: Log) -> None:
    for log in (crowded, usual):
        row = np.arange(len(log.fraud), dtype=np.float64)
        assert abs(area(row, log.fraud) - 0.5) <= 0.02, f"seed {log.options.seed}"
        by_tenth = np.bincount(np.flatnonzero(log.fraud) * 10 // len(log.fraud), minlength=10)
        assert by_tenth.min() > 0.6 * by_tenth.mean()
        assert by_tenth.max() < 1.5 * by_tenth.mean()


def test_ids_are_unique_among_themselves(usual: Log) -> None:
    names = words(usual.payments.texts("transaction_id"))
    assert len(np.unique(names)) == len(names)
    labels = words(usual.labels.texts("label_id"))
    assert len(np.unique(labels)) == len(labels)
