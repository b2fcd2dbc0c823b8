"""What is known of payments that both models decided, and the criteria over them."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from expectations.rules.rule_set import OUTCOMES
from lakehouse import delta
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.contracts.lake import WRITE_OFFS
from lakehouse.label_ledger import Trust
from lakehouse.moments import DAY_MS
from tests.decisions import models
from tests.filled import DAY_1, row
from training import matured as reading
from training.criteria import failed, judged
from training.data import Dataset
from training.matured import Matured
from training.package import model_of
from training.paired import Pairs

APPROVE, DECLINE = 0, 3
TRUST = Trust(("chargeback", "customer"), 0.5)


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


class Asked:
    """A model that keeps how many payments it was asked for at a time."""

    def __init__(self, seed):
        self.model, self.asked = model_of(models.fitted(seed), {"challenge": 0.02, "review": 0.03, "decline": 0.06}), []
        self.manifest = self.model.manifest

    def scores(self, X):
        self.asked.append(len(X))
        return self.model.scores(X)


def test_on_history_the_time_to_score_is_the_challenger_s_payment_by_payment():
    n = 500
    X, fraud = models.vectors(3, n)
    ids, card, day = pa.array([f"t{at}" for at in range(n)]), np.arange(n), np.arange(n) * DAY_MS
    history = Dataset(ids, X, day, fraud, day, card, np.full(n, 5_000), n * DAY_MS, 1)
    champion, challenger = Asked(0), Asked(1)
    found = reading.held_out(history, 10 * DAY_MS, champion, challenger, 40)
    assert (champion.asked, challenger.asked) == ([450], [450] + [1] * 150)
    assert len(found.scoring_us) == 150
    newest = reading.held_out(history, 10 * DAY_MS, champion, challenger, 40, most=100).pairs
    assert newest.event_ms.tolist() == [at * DAY_MS for at in range(360, 460)]


@pytest.mark.parametrize(
    ("lost", "champion", "fraud"),
    [
        ([], ["approve", "decline", "decline"], [False, True, True]),
        # Without its decision nobody knows that the champion alone would have declined it.
        ([1], ["approve", "decline"], [False, True]),
    ],
)
def test_what_exploration_let_through_was_declined_and_a_rule_s_label_is_none(settings, lost, champion, fraud):
    root, late = settings.lake.root, DAY_1 + timedelta(days=30)
    models = {"model_digest": "b" * 64, "champion_digest": "a" * 64, "champion_score": 0.9, "score": 0.9}
    said = [
        row(
            silver.SHADOW,
            n,
            transaction_id=f"t{n}",
            event_time=DAY_1,
            outcome="decline",
            champion_outcome=one,
            **models,
        )
        for n, one in enumerate(("approve", "approve", "decline"))
    ]
    delta.append(root, silver.SHADOW, said)
    delta.append(root, silver.PAYMENTS, [row(silver.PAYMENTS, n, transaction_id=f"t{n}") for n in range(3)])
    delta.append(root, silver.BALANCE, [row(silver.BALANCE, 9, engine_clock=late)])
    decided = [
        row(silver.DECISIONS, n, decision_offset=n, explored_from="decline" if n == 1 else None)
        for n in range(3)
        if n not in lost
    ]
    written_off = [{"topic_id": "x", "start_offset": n, "end_offset": n + 1, "place": "bronze.decisions"} for n in lost]
    delta.append(root, WRITE_OFFS, [row(WRITE_OFFS, 0) | one for one in written_off])
    delta.append(root, silver.DECISIONS, decided)
    words = ((0, "rule", True), (1, "customer", False), (1, "chargeback", True), (2, "customer", True))
    labels = [
        row(silver.LABELS, 10 + n, label_id=f"l{n}", transaction_id=f"t{of}", source=source, is_fraud=fraud)
        for n, (of, source, fraud) in enumerate(words)
    ]
    delta.append(root, silver.LABELS, labels)
    found = reading.read(root, "a" * 64, "b" * 64, 7, TRUST).pairs
    assert [OUTCOMES[one] for one in found.champion] == champion
    assert found.fraud.tolist() == fraud
