"""What is said of declined payments is of those that exploration decided, once their labels had time to arrive."""

import json

import pytest

from lakehouse import delta
from lakehouse.contracts import gold
from tests.filled import row
from training import exploration


def payment(offset, outcome, propensity=None, fraud=False, mature=True, answered=None, amount=100):
    """A row of gold.decisions and one of gold.training_set."""
    explored_from = "decline" if outcome == "approve" and propensity else None
    told = {"propensity": propensity, "explored_from": explored_from, "amount_base_minor": amount}
    return (
        row(gold.DECISIONS, offset, decided_outcome=outcome, answered_outcome=answered, **told),
        row(gold.TRAINING_SET, offset, is_fraud=fraud, is_mature=mature),
    )


PAYMENTS = [
    *(payment(n, "approve", fraud=n < 3) for n in range(20)),
    # Of forty declines two were let through, one of them a fraud of 400.
    *(payment(20 + n, "decline", 0.05) for n in range(38)),
    payment(58, "approve", 0.05, fraud=True, amount=400),
    payment(59, "approve", 0.05, amount=200),
    # Not spoken of: challenged, on a block list, too young, and answered by the API first.
    payment(60, "challenge", fraud=True),
    payment(61, "decline", fraud=True),
    payment(62, "approve", 0.05, fraud=True, mature=False),
    payment(63, "approve", 0.05, fraud=True, answered="review"),
]


@pytest.fixture
def root(settings, monkeypatch):
    monkeypatch.setenv("FRAUDLAKE__LAKE__ROOT", settings.lake.root)
    return settings.lake.root


def put(root, payments):
    decided, known = zip(*payments, strict=True)
    delta.append(root, gold.DECISIONS, decided)
    delta.append(root, gold.TRAINING_SET, known)


def test_each_that_was_let_through_stands_for_twenty(root, capsys):
    put(root, PAYMENTS)
    of = exploration.explored(root)
    assert (len(of.seen), int(of.declined.sum()), int((of.seen & of.declined).sum())) == (60, 40, 2)
    assert exploration.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: round(one["value"], 6) for name, one in found.items()} == {
        "fraud among declined, share": 0.5,
        "frauds stopped, share of all": round(20 / 23, 6),
        "fraud, share of all payments": round(23 / 60, 6),
        "prevented loss, minor units": 8000,
        "honest payments declined": 20,
        "their amount, minor units": 4000,
    }
    assert all(one["low"] < one["value"] < one["high"] for one in found.values())
    assert exploration.main([]) == 0
    assert capsys.readouterr().out.startswith("40 payments could be let through, 2 were; 60 in all\n")


def test_without_exploration_the_command_says_how_to_begin(root, capsys):
    assert exploration.main([]) == 1
    put(root, PAYMENTS[:20])
    assert exploration.main([]) == 1
    assert "--explore-share" in capsys.readouterr().err
