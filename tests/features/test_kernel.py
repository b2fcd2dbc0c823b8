"""The kernel gives what the definitions say, however the records are cut."""

import brute
import numpy as np
import pytest
import worlds

from features import snapshot, store
from features.catalogue import FEATURES, NAMES
from features.flow import Flow
from features.records import PAID
from features.state import EntityState, Spec
from features.table import grown
from features.waiting import WaitingRoom

SPEC = Spec(label_delay_d=7, record_retention_d=400, max_keys=1_000_000)


def differing(found, expected):
    """Names of features with a value that differs, and the first row."""
    expected = expected.astype(np.float32)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    same |= np.isclose(found, expected, rtol=2e-6, atol=1e-4)
    return [(NAMES[c], int(np.flatnonzero(~same[:, c])[0])) for c in np.flatnonzero(~same.all(axis=0))]


@pytest.mark.parametrize("case", range(4))
def test_every_feature_equals_its_definition(case, seed):
    events, labels = worlds.world([seed, case])
    found = Flow(SPEC).take(events, labels)
    expected = brute.vectors(events, labels, SPEC.label_delay_d)
    assert differing(found, expected) == [], f"seed {seed}, case {case}"
    known = ~np.isnan(found)
    assert known.any(axis=0).all(), [NAMES[c] for c in np.flatnonzero(~known.any(axis=0))]


def test_without_a_label_delay_the_windows_are_the_same_days(seed):
    spec = Spec(label_delay_d=0, record_retention_d=400, max_keys=1_000_000)
    events, labels = worlds.world([seed, 10], n=200)
    assert differing(Flow(spec).take(events, labels), brute.vectors(events, labels, 0)) == [], f"seed {seed}"


def test_one_by_one_and_any_cut_give_the_same_bits_as_one_batch(seed):
    events, labels = worlds.world([seed, 20], n=600, people=3)
    whole = Flow(SPEC).take(events, labels)
    random = np.random.default_rng(seed)
    for bounds in (np.arange(2400), np.sort(random.integers(0, 2400, 30))):
        flow = Flow(SPEC)
        parts = zip(worlds.pieces(events, bounds), worlds.pieces(labels, bounds), strict=True)
        found = np.concatenate([flow.take(one, other) for one, other in parts])
        assert found.tobytes() == whole.tobytes(), f"seed {seed}"


def test_room_for_others_does_not_change_a_bit(seed):
    events, labels = worlds.world([seed, 25], n=20_000, people=100)
    # At a steady pace a ring of 64 entries hardly merges: it must double, also when the pool is used up just then.
    times = worlds.START_MS + np.arange(len(events.offset)) * 1000
    events = events._replace(records=events.records._replace(event_ms=times), clock_ms=times)
    tight, roomy = Flow(SPEC), Flow(SPEC)
    for state in roomy.states.values():
        if isinstance(state, EntityState):
            state.arrays = state.arrays._replace(
                events=grown(state.arrays.events, 1 << 20), merged=grown(state.arrays.merged, 1 << 18)
            )
    assert tight.take(events, labels).tobytes() == roomy.take(events, labels).tobytes(), f"seed {seed}"


def test_a_restart_from_a_snapshot_at_a_random_place_gives_the_same_bits(seed, tmp_path):
    events, labels = worlds.world([seed, 30], n=600, people=3)
    whole = Flow(SPEC).take(events, labels)
    bound = [int(np.random.default_rng(seed).integers(100, 2300))]
    (first, second), (first_labels, second_labels) = worlds.pieces(events, bound), worlds.pieces(labels, bound)
    before = Flow(SPEC)
    head = before.take(first, first_labels)
    arrays = snapshot.prefixed(before.waiting.saved(), "waiting")
    for name, state in before.states.items():
        arrays.update(snapshot.prefixed(state.saved(), name))
    snapshot.write(tmp_path / "x.state", {}, arrays)
    held = snapshot.read(tmp_path / "x.state").arrays
    after = Flow(SPEC)
    for name, state in after.states.items():
        state.load(snapshot.part(held, name))
    after.waiting = WaitingRoom.loaded(snapshot.part(held, "waiting"))
    tail = after.take(second, second_labels)
    assert np.concatenate([head, tail]).tobytes() == whole.tobytes(), f"seed {seed}"


def test_what_comes_after_a_payment_does_not_change_its_features(seed):
    events, labels = worlds.world([seed, 40])
    whole = Flow(SPEC).take(events, labels)
    bound = [800]
    first, first_labels = worlds.pieces(events, bound)[0], worlds.pieces(labels, bound)[0]
    alone = Flow(SPEC).take(first, first_labels)
    assert alone.tobytes() == whole[: len(alone)].tobytes(), f"seed {seed}"


def test_labels_written_before_the_first_payment_change_nothing_before_their_time(seed):
    events, labels = worlds.world([seed, 50])
    early = labels._replace(offset=np.arange(-len(labels.offset), 0))
    none = worlds.pieces(labels, [-1])[0]
    first_effect = int(labels.records.event_ms.min())
    untouched = int((events.clock_ms[events.records.what == PAID] < first_effect).sum())
    assert untouched > 5
    with_labels, without = Flow(SPEC).take(events, early), Flow(SPEC).take(events, none)
    assert with_labels[:untouched].tobytes() == without[:untouched].tobytes(), f"seed {seed}"
    assert with_labels.tobytes() != without.tobytes()


def test_a_dense_key_stays_within_the_stated_bound(seed):
    events, labels = worlds.world([seed, 60], n=20_000, people=1, days=45)
    events.records.what[:] = PAID
    found = Flow(SPEC).take(events, labels)
    sums = NAMES.index("card_tx_count_30d"), NAMES.index("card_tx_count_1h")
    paid = events.records.what == PAID
    card = events.records.who[paid, 0]
    clock = events.records.event_ms[paid]
    worst = 0.0
    for key in np.unique(card):
        at = np.flatnonzero(card == key)
        now = np.maximum.accumulate(clock[at])
        for column, window in zip(sums, (30 * 86_400_000, 3_600_000), strict=True):
            exact_low = np.array([(now[:i] > now[i] - window).sum() for i in range(0, len(at), 50)])
            exact_high = np.array([(now[:i] > now[i] - window * 65 / 64).sum() for i in range(0, len(at), 50)])
            got = found[at[::50], column]
            assert ((got >= exact_low) & (got <= exact_high)).all(), f"seed {seed}"
            worst = max(worst, float((got - exact_low).max()))
    assert worst > 0, "the key was not dense enough to test anything"


def test_features_of_nobody_are_missing_not_zero():
    events, labels = worlds.world(1, n=50)
    events.records.who[:, 3] = 0
    found = Flow(SPEC).take(events, labels)
    columns = [i for i, f in enumerate(FEATURES) if f.entity in ("device", "customer_device", "card_device")]
    assert np.isnan(found[:, columns]).all()


def test_at_the_cap_of_keys_nobody_new_is_kept_and_the_payments_are_marked():
    events, labels = worlds.world(2, n=300, people=10)
    flow = Flow(Spec(7, 400, max_keys=3))
    found = flow.take(events, labels)
    assert flow.states["card"].keys == 3
    lacking = np.isnan(found[:, NAMES.index("card_tx_count_24h")])
    assert 0 < lacking.sum() < len(lacking)
    assert flow.capped[lacking].all()
    roomy = Flow(SPEC)
    roomy.take(events, labels)
    assert len(roomy.capped) == len(found)
    assert not roomy.capped.any()


def test_a_key_that_was_silent_for_the_retention_is_as_new():
    events, labels = worlds.world(3, n=2, people=1)
    events.records.what[:] = PAID
    events.records.who[:] = events.records.who[0]
    events.records.event_ms[1] = events.records.event_ms[0] + 401 * 86_400_000
    events = events._replace(clock_ms=events.records.event_ms)
    none = worlds.pieces(labels, [-1])[0]
    found = Flow(SPEC).take(events, none)
    assert found[1, NAMES.index("card_life_tx_count")] == 0
    assert np.isnan(found[1, NAMES.index("card_age_s")])


def test_a_snapshot_of_another_spec_says_so():
    assert store.spec_hash(SPEC) != store.spec_hash(Spec(8, 400, 1_000_000))
    assert store.spec_hash(SPEC) == store.spec_hash(Spec(7, 400, 5))
