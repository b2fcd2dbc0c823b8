"""A sample of features as Spark SQL computes them, with RANGE windows over the same records: equal exactly."""

import numpy as np
import pandas as pd
import pytest
import worlds
from pyspark.sql import Window
from pyspark.sql import functions as F

from features.catalogue import NAMES
from features.entities import WHO
from features.flow import Flow
from features.records import PAID
from features.state import Spec
from features.windows import WINDOWS

SPEC = Spec(label_delay_d=7, record_retention_d=400, max_keys=1_000_000)
N, PEOPLE, MERCHANTS = 700, 30, 30
SAMPLE = {
    "card_tx_count_1h": ("card", "count", "1h"),
    "card_tx_count_24h": ("card", "count", "24h"),
    "card_tx_count_7d": ("card", "count", "7d"),
    "card_amount_sum_24h": ("card", "sum", "24h"),
    "card_amount_max_24h": ("card", "max", "24h"),
    "card_merchants_distinct_24h": ("card", "merchants", "24h"),
    "merchant_tx_count_24h": ("merchant", "count", "24h"),
    "customer_tx_count_7d": ("customer", "count", "7d"),
}


@pytest.fixture
def events(seed):
    """Payments and authorisations with ties, late ones and window edges, of keys with so few that all are single."""
    events, _ = worlds.world([seed, 90], n=N, people=PEOPLE)
    random = np.random.default_rng([seed, 91])
    events.records.who[:, WHO.index("merchant")] = random.integers(1, MERCHANTS + 1, N)
    for name in ("card", "customer", "merchant"):
        _, of_key = np.unique(events.records.who[:, WHO.index(name)], return_counts=True)
        assert of_key.max() <= 48
    # Every sixth record happens exactly a window after the one before it of its card, customer or merchant, or a
    # millisecond beside.
    when, clocks = events.records.event_ms, {}
    for i in range(N):
        whose = [(name, int(events.records.who[i, WHO.index(name)])) for name in ("card", "customer", "merchant")]
        key = whose[random.integers(3)]
        if i % 6 == 0 and key in clocks:
            when[i] = clocks[key] + WINDOWS[random.choice(["1h", "24h", "24h", "7d"])] + random.integers(-1, 2)
        for one in whose:
            clocks[one] = max(clocks.get(one, 0), int(when[i]))
    return events


def rows_of(events):
    """The records as a frame of the log: its order, whom, when, how much."""
    records = events.records
    return pd.DataFrame(
        {
            "offset": events.offset,
            "what": records.what.astype(np.int64),
            "event_ms": records.event_ms,
            "amount": records.amount,
            **{name: records.who[:, WHO.index(name)] for name in ("card", "customer", "merchant")},
        }
    )


def measured(measure, frame):
    """A measure of the payments in a frame."""
    payment = F.col("what") == PAID
    match measure:
        case "count":
            return F.count(F.when(payment, 1)).over(frame)
        case "sum":
            return F.coalesce(F.sum(F.when(payment, F.col("amount"))).over(frame), F.lit(0))
        case "max":
            return F.max(F.when(payment, F.col("amount"))).over(frame)
        case "merchants":
            return F.size(F.collect_set(F.when(payment, F.col("merchant"))).over(frame))


def by_spark(spark, events):
    """The sample's features of the payments, in the order of the log, by window functions."""
    frame = spark.createDataFrame(rows_of(events))
    for key in ("card", "customer", "merchant"):
        so_far = Window.partitionBy(key).orderBy("offset")
        # A key's clock never runs backwards: a late record counts as happening at the latest time its key has seen. And
        # of records of one millisecond the earlier ones of the log count, the later ones do not: so the frames are over
        # `at`, clock and place of the key's records in one number. Of two records with clocks exactly a window apart
        # the earlier has the lower place, so `at` less a window is just above it: the far edge is open.
        clock, place = F.max("event_ms").over(so_far), F.row_number().over(so_far) - 1
        frame = frame.withColumn(f"{key}_at", clock * N + place)
    for name, (key, measure, window) in SAMPLE.items():
        over = Window.partitionBy(key).orderBy(f"{key}_at").rangeBetween(-WINDOWS[window] * N, -1)
        frame = frame.withColumn(name, measured(measure, over))
    return frame.where(F.col("what") == PAID).orderBy("offset").select(*SAMPLE).toPandas().astype(np.float64)


def test_the_kernel_counts_what_spark_counts(spark, events, seed):
    found = pd.DataFrame(Flow(SPEC).take(events, worlds.nobody()), columns=NAMES)[list(SAMPLE)].astype(np.float64)
    expected = by_spark(spark, events)
    unequal = {
        name: np.flatnonzero(~((found[name] == expected[name]) | (found[name].isna() & expected[name].isna())))
        for name in SAMPLE
    }
    assert {name: rows.tolist() for name, rows in unequal.items() if len(rows)} == {}, f"seed {seed}"
    assert (expected.drop(columns="card_amount_max_24h").max() > 1).all()
    assert expected.card_amount_max_24h.isna().any()


def test_ties_and_late_records_are_in_what_is_compared(events):
    rows = rows_of(events)
    for key in ("card", "customer", "merchant"):
        clock = rows.groupby(key)["event_ms"].cummax()
        assert (rows.event_ms < clock).sum() > 5
        assert rows.assign(clock=clock).duplicated([key, "clock"]).sum() > 5
