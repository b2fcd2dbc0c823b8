"""The kernel's features against those that others published: 14 features of the Fraud Detection Handbook.

Their definition is computed here on payments made for it, always. With `DATA=FOLDER`, the folder that `make demo`
takes, our features are also compared with the numbers that the authors published, where FOLDER holds them
(`reference_features.parquet` beside `transactions.parquet`).

What is not equal by definition, and how it is compared:

- their customer windows include the payment: ours + 1, and (our sum + its amount) / (our count + 1);
- risk is 0 at a terminal without payments in the window, ours is missing;
- their night ends with hour 6, our `is_night` before it: compared by the hour;
- a key that had more than 48 payments within 37 days (longest window and label delay together) may see an edge of a
  window further back by up to 1/64 of its age, and the delayed windows of terminals have two such edges: their counts
  with the edges moved so far are the bounds.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import published
import pytest

from features.catalogue import NAMES
from features.entities import ENTITIES
from features.expressions import Operation
from features.flow import Flow
from features.state import Spec
from features.statistics import PAYMENT, entity_places
from features.windows import DAY_MS

SPEC = Spec(label_delay_d=published.DELAY_D, record_retention_d=400, max_keys=1_000_000)
CUSTOMER, MERCHANT = (next(e for e in ENTITIES if e.name == name) for name in ("customer", "merchant"))
SINGLE_EVENTS, LONGEST_D, EDGE = 48, 37, 65 / 64
OURS = {1: "24h", 7: "7d", 30: "30d"}
DATA = Path(os.environ.get("DATA", ""))
REFERENCE = DATA / "reference_features.parquet"


def features_of(frame, entity):
    """Our vectors by name, of payments that are complete for the entity's keys."""
    vectors = Flow(SPEC, of=[entity]).take(*published.placed(frame)).astype(np.float64)
    return {name: vectors[:, column] for column, name in enumerate(NAMES)}


def delayed_counts(frame):
    """Payments at the merchant in (t - 7 - n, t - 7] days: what the catalogue's fraud rates are divided by."""
    flow = Flow(SPEC, of=[MERCHANT], own=False)
    state, places = flow.states["merchant"], entity_places(MERCHANT)
    program = [
        [int(Operation.VALUE), len(PAYMENT) + places[f"delayed_tx_count_{n}d"], 0, 0, column]
        for column, n in enumerate(published.WINDOWS_D)
    ]
    state.plan = state.plan._replace(program=np.array(program))
    counts = flow.take(*published.placed(frame))
    return dict(zip(published.WINDOWS_D, counts.astype(np.float64).T, strict=False))


def converted_customers(frame):
    """Our features of customers as they would have published them, and the flags of the payment itself."""
    ours, amount = features_of(frame, CUSTOMER), published.minor(frame)
    out = {"tx_during_weekend": ours["weekday"] >= 5, "tx_during_night": ours["hour_utc"] <= 6}
    for n, window in OURS.items():
        count = ours[f"customer_tx_count_{window}"] + 1
        out[f"customer_id_nb_tx_{n}day_window"] = count
        out[f"customer_id_avg_amount_{n}day_window"] = (ours[f"customer_amount_sum_{window}"] + amount) / count / 100
    return pd.DataFrame(out).astype(np.float64)


def converted_terminals(frame):
    """Our features of merchants as they would have published them."""
    ours, seen, out = features_of(frame, MERCHANT), delayed_counts(frame), {}
    for n in published.WINDOWS_D:
        out[f"terminal_id_nb_tx_{n}day_window"] = seen[n]
        rate = ours[f"merchant_fraud_rate_{n}d"]
        assert (np.isnan(rate) == (seen[n] == 0)).all(), "a rate is missing exactly where there was no payment"
        out[f"terminal_id_risk_{n}day_window"] = np.nan_to_num(rate, nan=0.0)
    return pd.DataFrame(out)


def single_events(frame, key):
    """Payments whose key never had so many within 37 days that its ring merges any."""
    within = published.over(frame.assign(one=1.0), key, "one", LONGEST_D)
    return (pd.Series(within).groupby(frame[key].to_numpy()).transform("max") <= SINGLE_EVENTS).to_numpy()


def unequal(found, expected, rows):
    """Per feature, how many of `rows` differ by more than the rounding of float32."""
    near = np.isclose(found[rows], expected[list(found)][rows].astype(np.float64), rtol=1e-6, atol=1e-9)
    return {name: int(n) for name, n in zip(found, (~near).sum(axis=0), strict=True) if n}


def outside(found, frame, rows):
    """Per count, how many of `rows` are not between the counts of windows with an edge moved back by 1/64."""
    counts = [name for name in found if "_nb_tx_" in name]
    least, most = published.definition(frame, near=EDGE), published.definition(frame, far=EDGE)
    wrong = (found[counts] < least[counts]) | (found[counts] > most[counts])
    return {name: int(n) for name, n in wrong[rows].sum().items() if n}


def compared(frame, key, convert, expected, rows):
    """(rows compared exactly, rows within the bound), after comparing `rows` with the expected features."""
    frame = frame.reset_index(drop=True)
    found, exact = convert(frame), single_events(frame, key)
    assert unequal(found, expected, rows & exact) == {}
    assert outside(found, frame, rows & ~exact) == {}
    return int((rows & exact).sum()), int((rows & ~exact).sum())


@pytest.fixture
def frame(seed):
    return published.generated([seed, 80])


@pytest.mark.parametrize(
    ("key", "convert"), [("customer_id", converted_customers), ("terminal_id", converted_terminals)]
)
def test_our_features_are_the_published_ones_by_their_definition(frame, key, convert, seed):
    everything = np.ones(len(frame), bool)
    exact, bounded = compared(frame, key, convert, published.definition(frame), everything)
    assert min(exact, bounded) > 500, f"seed {seed}"


def test_the_awkward_payments_are_in_the_generated_ones(frame):
    found, at = published.definition(frame), frame.tx_datetime
    assert frame.duplicated(["customer_id", "tx_datetime"]).sum() > 100
    for n in (*published.WINDOWS_D, published.DELAY_D + 1):
        before = frame.assign(tx_datetime=at + pd.Timedelta(days=n))[["terminal_id", "tx_datetime"]]
        assert len(frame.merge(before, on=["terminal_id", "tx_datetime"])) > 5, f"{n} days to the second"
    assert (found.terminal_id_nb_tx_1day_window == 0).sum() > 100
    assert found.terminal_id_risk_30day_window.between(0.01, 0.99).sum() > 100


def test_the_delay_of_the_labels_is_part_of_the_definition(frame):
    events, labels = published.placed(frame)
    sooner = labels._replace(records=labels.records._replace(event_ms=labels.records.event_ms - DAY_MS))
    column = NAMES.index("merchant_fraud_rate_1d")
    found, other = (Flow(SPEC, of=[MERCHANT]).take(events, given)[:, column] for given in (labels, sooner))
    assert not np.array_equal(found, other, equal_nan=True)


@pytest.mark.skipif(not REFERENCE.is_file(), reason="DATA names no folder with the published features")
@pytest.mark.parametrize(
    ("key", "convert", "sample"),
    [("customer_id", converted_customers, 200), ("terminal_id", converted_terminals, 400)],
)
def test_our_features_are_the_published_numbers(key, convert, sample, seed):
    everything = pd.read_parquet(DATA / "transactions.parquet").sort_values(["tx_datetime", "transaction_id"])
    reference = pd.read_parquet(REFERENCE).set_index("transaction_id")
    chosen = np.random.default_rng(seed).choice(everything[key].unique(), sample, replace=False)
    frame = everything[everything[key].isin(chosen)].reset_index(drop=True)
    # Two of their rows follow another order than time and number where a customer paid twice in a second.
    tied = frame.duplicated([key, "tx_datetime"], keep=False).to_numpy()
    rows = frame.transaction_id.isin(reference.index).to_numpy() & ~tied
    expected = reference.reindex(frame.transaction_id).reset_index(drop=True)
    exact, bounded = compared(frame, key, convert, expected, rows)
    assert min(exact, bounded) > 1000, f"seed {seed}"
