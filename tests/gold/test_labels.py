"""What a payment is known to be: what had arrived, not taken back, by the strongest source that has a word."""

import random
from datetime import timedelta

import pyarrow as pa
import pytest

from gold.labels import findings
from lakehouse import label_ledger
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.errors import SettingsError
from lakehouse.files import arrow_schema
from lakehouse.label_ledger import Trust
from tests.filled import DAY_1, row

TRUST = Trust(("chargeback", "analyst", "early_warning", "customer"), 0.5)
SOURCES = (*TRUST.sources, "rule")


def at(day):
    return DAY_1 + timedelta(days=day - 1)


def ms(day):
    return int(at(day).timestamp() * 1000)


def label(offset, of, source, day, fraud, *, arrived=None, reverses=None, confidence=0.9):
    """Label l<offset> on payment `of`, to be known from a day on."""
    return row(
        silver.LABELS,
        offset,
        label_id=f"l{offset}",
        transaction_id=of,
        source=source,
        label_available_at=at(day),
        engine_clock=at(day if arrived is None else arrived),
        is_fraud=fraud,
        reverses=None if reverses is None else f"l{reverses}",
        confidence=confidence,
    )


LABELS = [
    # Sources disagree: the strongest is right, whoever came first, whoever is surer.
    label(1, "disputed", "customer", 2, True, confidence=1.0),
    label(2, "disputed", "analyst", 3, False),
    label(3, "disputed", "chargeback", 6, True),
    # Of one source the newest word.
    label(4, "second look", "analyst", 2, True),
    label(5, "second look", "analyst", 4, False),
    # Taken back: the other word is left; a reversal of a reversal brings nothing back.
    label(6, "friendly", "chargeback", 2, True),
    label(7, "friendly", "customer", 2.5, False),
    label(8, "friendly", "chargeback", 4, False, reverses=6),
    label(9, "friendly", "chargeback", 5, True, reverses=8),
    # Not a word: a rule's, and one that is not sure.
    label(10, "predicted", "rule", 2, True, confidence=1.0),
    label(11, "perhaps", "customer", 2, False, confidence=0.4),
    label(12, "perhaps", "early_warning", 4, True, confidence=0.5),
    # Written with a time that had passed: known when it arrived.
    label(13, "late", "chargeback", 2, True, arrived=6),
]
KNOWN = {
    1: {},
    2: {"disputed": (True, "customer", 2), "second look": (True, "analyst", 2), "friendly": (True, "chargeback", 2)},
    4: {
        "disputed": (False, "analyst", 3),
        "second look": (False, "analyst", 4),
        "friendly": (False, "customer", 2.5),
        "perhaps": (True, "early_warning", 4),
    },
    6: {
        "disputed": (True, "chargeback", 2),  # a standing word said so since day 2
        "second look": (False, "analyst", 4),
        "friendly": (False, "customer", 2.5),
        "perhaps": (True, "early_warning", 4),
        "late": (True, "chargeback", 6),
    },
}


def found(spark, labels, day, trust=TRUST):
    frame = spark.createDataFrame(labels, silver.LABELS.ddl)
    rows = findings(frame, ms(day), trust).collect()
    out = {r.transaction_id: (r.is_fraud, r.label_source, r.label_available_at) for r in rows}
    assert len(out) == len(rows)
    return out


@pytest.mark.parametrize("day", KNOWN)
def test_the_strongest_source_with_a_standing_word_is_right(spark, day):
    expected = {name: (fraud, source, at(since)) for name, (fraud, source, since) in KNOWN[day].items()}
    assert utc(found(spark, LABELS, day)) == expected


def utc(rows):
    """Spark collects naive times of this machine's zone, which is that of the session: UTC."""
    return {name: (*rest, since.replace(tzinfo=DAY_1.tzinfo)) for name, (*rest, since) in rows.items()}


def by_hand(labels, day, trust):
    """The rule, one payment and label at a time."""
    seen = [one | {"known": max(one["label_available_at"], one["engine_clock"])} for one in labels]
    seen = [one for one in seen if one["known"] <= at(day)]
    gone = {one["reverses"] for one in seen}
    out = {}
    for name in {one["transaction_id"] for one in seen}:
        words = [
            one
            for one in seen
            if one["transaction_id"] == name
            and one["reverses"] is None
            and one["label_id"] not in gone
            and one["source"] in trust.sources
            and one["confidence"] >= trust.least_confidence
        ]
        if words:
            strongest = min(trust.sources.index(one["source"]) for one in words)
            mine = [one for one in words if one["source"] == trust.sources[strongest]]
            right = max(mine, key=lambda one: (one["known"], one["offset"]))
            since = min(one["known"] for one in words if one["is_fraud"] == right["is_fraud"])
            out[name] = (right["is_fraud"], right["source"], since)
    return out


def test_any_ledger_folds_as_by_hand_and_what_arrives_later_changes_nothing_before(spark, seed):
    draw = random.Random(seed)
    labels = []
    for offset in range(600):
        earlier = draw.choice(labels) if labels and draw.random() < 0.2 else None
        day = draw.randrange(1, 40) / 2
        labels.append(
            label(
                offset,
                earlier["transaction_id"] if earlier else f"t{draw.randrange(120)}",
                draw.choice(SOURCES),
                day,
                draw.random() < 0.6,
                arrived=day + draw.choice([0, 0, 3]),
                reverses=earlier["offset"] if earlier else None,
                confidence=draw.choice([0.3, 0.5, 0.9]),
            )
        )
    trust = Trust(tuple(draw.sample(SOURCES, 3)), 0.5)
    whole = utc(found(spark, labels, 12, trust))
    assert whole == by_hand(labels, 12, trust)
    table = pa.Table.from_pylist(labels, arrow_schema(silver.LABELS)).select(label_ledger.COLUMNS)
    without_spark = label_ledger.findings(table, ms(12), trust).to_pylist()
    assert {r["transaction_id"]: (r["is_fraud"], r["source"]) for r in without_spark} == {
        name: (fraud, source) for name, (fraud, source, _) in whole.items()
    }
    assert label_ledger.findings(table.slice(0, 0), ms(12), trust).num_rows == 0
    arrived = [one for one in labels if one["engine_clock"] <= at(12)]
    assert utc(found(spark, arrived, 12, trust)) == whole


def test_a_source_that_is_named_twice_is_refused(monkeypatch):
    monkeypatch.setenv("FRAUDLAKE__LABELS__SOURCES", '["analyst", "analyst"]')
    with pytest.raises(SettingsError, match="names a source twice"):
        conf.load()
