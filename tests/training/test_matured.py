"""What is known of payments that both models decided, and the criteria over them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from lakehouse import settings as conf
from training.criteria import failed, judged
from training.matured import Matured, known_fraud
from training.paired import Pairs

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
APPROVE, DECLINE = 0, 3


def label(offset, transaction_id, is_fraud=True, source="chargeback", **changes):
    """A label that was known ten days before."""
    known = AS_OF - timedelta(days=10)
    usual = {"label_id": f"l{offset}", "confidence": 1.0, "label_available_at": known, "engine_clock": known}
    named = {"offset": offset, "transaction_id": transaction_id, "is_fraud": is_fraud, "source": source}
    return {**usual, **named, "reverses": None, **changes}


def test_frauds_are_those_of_the_ledgers_rule():
    later, before = AS_OF + timedelta(days=1), AS_OF - timedelta(days=5)
    rows = [
        label(1, "plain"),
        label(2, "not yet", label_available_at=later),
        label(3, "arrived late", engine_clock=later),
        label(4, "taken back"),
        label(5, "taken back", reverses="l4"),
        label(6, "our own rule", source="rule"),
        label(7, "unsure", confidence=0.1, source="customer"),
        label(8, "stronger says no", source="customer"),
        label(9, "stronger says no", is_fraud=False, source="analyst"),
        label(10, "changed their mind", is_fraud=False),
        label(11, "changed their mind", label_available_at=before),
    ]
    trusted = conf.load().labels
    found = known_fraud(pa.Table.from_pylist(rows), int(AS_OF.timestamp() * 1000), trusted)
    stronger = trusted.sources.index("analyst") < trusted.sources.index("customer")
    expected = {"plain", "changed their mind"} | (set() if stronger else {"stronger says no"})
    assert found - {"unsure"} == expected
    assert ("unsure" in found) == (trusted.least_confidence <= 0.1)


def matured(champion, challenger, segments=(), scores=(0.1, 0.1), us=20.0):
    """A thousand payments of as many cards, every tenth a fraud; outcomes of frauds and of others, by model."""
    n = 1000
    fraud = np.arange(n) % 10 == 0
    outcomes = [np.where(fraud, *one) for one in (champion, challenger)]
    pairs = Pairs(np.arange(n), np.arange(n), fraud, np.full(n, 5_000), *outcomes)
    each = [np.where(fraud, score, 0.01) for score in scores]
    return Matured(pairs, dict(segments), *each, np.full(n, us), 0)


GOOD = {"champion": (APPROVE, APPROVE), "challenger": (DECLINE, APPROVE)}


@pytest.fixture(scope="module")
def of():
    return conf.load().experiment


def test_a_challenger_that_stops_what_the_champion_lets_through_meets_every_criterion(of):
    found = judged(matured(**GOOD), 0.05, of)
    assert failed(found) == []
    assert found[0].found == "1,000 matured payments, 100 frauds, 100 cards on which the models differ"
    assert found[1].found.startswith("saves 500.000 minor units a payment (100.0% of the cost), at every look between")


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"challenger": (APPROVE, APPROVE)}, ["evidence", "money"]),
        ({"champion": (DECLINE, APPROVE), "challenger": (APPROVE, APPROVE)}, ["money"]),
        ({"scores": (0.9, 0.1)}, ["calibration"]),
        ({"us": 10_000.0}, ["latency"]),
    ],
)
def test_each_criterion_can_fail_alone(of, changes, missing):
    assert failed(judged(matured(**{**GOOD, **changes}), 0.05, of)) == missing


def test_a_segment_that_is_dearer_by_more_than_the_margin_fails_however_much_is_saved_elsewhere(of):
    n, channel = 1000, np.arange(1000) < 500
    fraud = np.arange(n) % 10 == 0
    worse = np.where(fraud & ~channel, DECLINE, np.where(channel & ~fraud & (np.arange(n) % 3 == 0), DECLINE, APPROVE))
    pairs = Pairs(np.arange(n), np.arange(n), fraud, np.full(n, 5_000), np.full(n, APPROVE), worse)
    score = np.where(fraud, 0.1, 0.01)
    found = judged(Matured(pairs, {"channel ecom": channel}, score, score, np.full(n, 1.0), 0), 0.05, of)
    (segments,) = [one for one in found if one.name == "segments"]
    assert not segments.passed
    assert segments.found.startswith("dearer: channel ecom ")


def test_nothing_matured_meets_nothing(of):
    nothing = np.zeros(0, np.int64)
    empty = Matured(Pairs(nothing, nothing, nothing > 0, nothing, nothing, nothing), {}, *[np.zeros(0)] * 3, 0)
    assert failed(judged(empty, 0.05, of)) == ["evidence", "money", "calibration", "latency"]
