"""Nothing that is written after a payment changes its features: not dropped, not altered, whatever its kind."""

import numpy as np
import pytest
import worlds
from hypothesis import given, settings
from hypothesis import strategies as st

from features.flow import Flow
from features.inputs import Placed, Whom, labels
from features.past import columns_of
from features.records import AUTHORISED, DECLINED, FRAUD, PAID
from features.state import Spec
from features.windows import DAY_MS
from lakehouse.contracts import silver
from lakehouse.registry import PREFIX_BYTES, registry
from tests.lakehouse.records import raw

SPEC = Spec(label_delay_d=7, record_retention_d=400, max_keys=1_000_000)
N = 150


def altered(placed, after, random):
    """The records, with everything from offset `after` on made another: whom, when, how much, what, where."""
    records, tail = placed.records, placed.offset >= after
    n = len(tail)

    def mixed(column, other):
        return np.where(tail.reshape(-1, *[1] * (column.ndim - 1)), other, column)

    order = random.permutation(n)
    clock = mixed(placed.clock_ms, placed.clock_ms + random.integers(0, 40 * DAY_MS))
    changed = records._replace(
        what=mixed(records.what, np.where(records.what == PAID, AUTHORISED, records.what)),
        event_ms=mixed(records.event_ms, records.event_ms + random.integers(-DAY_MS, DAY_MS, n)),
        amount=mixed(records.amount, records.amount[order] * 3),
        place=mixed(records.place, records.place[order]),
        who=mixed(records.who, records.who[order]),
        flags=mixed(records.flags, records.flags ^ (DECLINED | FRAUD)),
        label_id=mixed(records.label_id, records.label_id[order]),
        payment=mixed(records.payment, records.payment[order]),
    )
    return Placed(changed, placed.offset, clock)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), after=st.integers(0, 4 * N), only=st.sampled_from(["events", "labels", "both"]))
def test_what_is_written_after_a_payment_changes_no_bit_of_its_features(seed, after, only):
    events, labels = worlds.world(seed, n=N, people=3)
    whole = Flow(SPEC).take(events, labels)
    before = int(((events.offset < after) & (events.records.what == PAID)).sum())
    random = np.random.default_rng(seed)
    others = altered(events, after, random) if only != "labels" else events
    other_labels = altered(labels, after, random) if only != "events" else labels
    assert Flow(SPEC).take(others, other_labels)[:before].tobytes() == whole[:before].tobytes()
    kept = worlds.pieces(events, [after])[0] if only != "labels" else events
    kept_labels = worlds.pieces(labels, [after])[0] if only != "events" else labels
    assert Flow(SPEC).take(kept, kept_labels)[:before].tobytes() == whole[:before].tobytes()


def test_what_is_altered_would_change_the_features_of_payments_after_it(seed):
    events, labels = worlds.world([seed, 95], n=N, people=3)
    whole, random = Flow(SPEC).take(events, labels), np.random.default_rng(seed)
    assert Flow(SPEC).take(events, altered(labels, 0, random)).tobytes() != whole.tobytes()
    paid = altered(events, int(events.offset[N // 2]), random)
    assert Flow(SPEC).take(paid, labels).tobytes() != whole.tobytes()


@pytest.mark.parametrize(("source", "counts"), [("chargeback", True), ("analyst", True), ("rule", False)])
def test_what_a_rule_of_ours_predicted_is_no_fraud_to_a_feature(source, counts):
    # Else a rule that looks at known frauds would feed itself.
    value = raw("label", source=source, is_fraud=True)
    schema, nothing = registry().latest("label"), np.zeros(1, np.int64)
    end = np.array([len(value)])
    batch = schema.codec.decode(np.frombuffer(value, np.uint8), nothing + PREFIX_BYTES, end).batch
    nobody = Whom(*[nothing] * len(Whom._fields))
    made = labels(batch, nobody, nothing, nothing, nothing)
    assert made.records.flags.tolist() == [FRAUD if counts else 0]
    assert "source" in columns_of(silver.LABELS)
