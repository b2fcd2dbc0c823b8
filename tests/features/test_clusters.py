"""Rings of customers: who is joined by what, what is known of them, and what a busy public address cannot do."""

import brute
import numpy as np
import pytest

from features.catalogue import FEATURES, NAMES
from features.clusters import MOST_CUSTOMERS
from features.entities import CLUSTER, WHO
from features.flow import Flow
from features.inputs import Placed
from features.records import FRAUD, LABELLED, PAID, empty
from features.state import Spec

SPEC = Spec(label_delay_d=7, record_retention_d=400, max_keys=1_000_000)
DAY_MS = 86_400_000
START_MS = 1_780_000_000_000


def log(*rows):
    """(events, labels) of rows: dicts with `day`, `customer` and tokens; one with `label` is a label."""
    events, labels = [], []
    for offset, row in enumerate(rows):
        (labels if "label" in row else events).append((offset, row))
    return _placed(events, PAID), _placed(labels, LABELLED)


def _placed(rows, what):
    records = empty(len(rows))
    for i, (_, row) in enumerate(rows):
        records.what[i] = what
        records.event_ms[i] = START_MS + int(row["day"] * DAY_MS)
        records.amount[i] = row.get("amount", 100)
        records.label_id[i], records.reverses[i] = row.get("label", 0), row.get("reverses", 0)
        records.flags[i] = FRAUD if what == LABELLED else 0
        for name in WHO:
            records.who[i, WHO.index(name)] = row.get(name, 0)
    return Placed(records, np.array([offset for offset, _ in rows], np.int64), records.event_ms.copy())


def vectors(*rows):
    """Vectors of the payments, by feature name."""
    found = Flow(SPEC).take(*log(*rows))
    return [dict(zip(NAMES, row.tolist(), strict=True)) for row in found]


def pays(day, customer, **more):
    return {"day": day, "customer": customer, **more}


def test_two_customers_of_one_device_are_a_ring_from_their_next_payment():
    first, second, third = vectors(pays(0, 1, device=7), pays(1, 2, device=7), pays(2, 1))
    assert first["ring_customers_count"] == 0
    assert np.isnan(first["ring_age_s"])
    assert (second["ring_customers_count"], second["ring_joined_count"], second["ring_age_s"]) == (1, 1, 86_400)
    assert (third["ring_customers_count"], third["ring_tx_count"], third["ring_age_s"]) == (2, 2, 172_800)
    assert (third["ring_tokens_count"], third["ring_tokens_per_customer"], third["ring_tx_per_customer"]) == (1, 0.5, 1)


@pytest.mark.parametrize("token", list(CLUSTER.limits))
def test_every_kind_of_token_joins(token):
    *_, last = vectors(pays(0, 1, **{token: 7}), pays(1, 2, **{token: 7}), pays(2, 1))
    assert last["ring_customers_count"] == 2


def test_the_same_number_as_a_card_and_as_a_device_is_not_the_same_token():
    *_, last = vectors(pays(0, 1, device=7), pays(1, 2, card=7), pays(2, 1))
    assert last["ring_customers_count"] == 1


def test_a_confirmed_fraud_is_known_to_the_whole_ring_and_to_a_stranger_with_its_device():
    rows = [
        *(pays(0, 1, device=7), pays(1, 2, device=7)),
        *({"day": 2, "customer": 2, "label": 11, "amount": 900}, pays(3, 1), pays(3, 3, device=7), pays(3, 2)),
    ]
    *_, other, stranger, victim = vectors(*rows)
    assert (other["ring_fraud_count"], other["ring_others_fraud_count"], other["ring_fraud_amount_sum"]) == (1, 1, 900)
    assert (other["ring_since_fraud_s"], other["ring_fraud_share"]) == (86_400, 0.5)
    assert (stranger["ring_fraud_count"], stranger["ring_joined_count"]) == (1, 1)
    assert (victim["ring_fraud_count"], victim["ring_others_fraud_count"]) == (1, 0)


def test_a_label_that_is_taken_back_leaves_the_ring_too():
    rows = [
        *(pays(0, 1, device=7), pays(1, 2, device=7), {"day": 2, "customer": 2, "label": 11}),
        *({"day": 3, "customer": 2, "label": 12, "reverses": 11}, pays(4, 1)),
    ]
    assert vectors(*rows)[-1]["ring_fraud_count"] == 0


def test_a_public_address_joins_no_more_than_its_limit_and_says_so():
    city = [pays(i / 1000, 100 + i, ip=5) for i in range(1000)]
    *_, of_the_first, last = vectors(*city, pays(2, 100), pays(2, 5000, ip=5))
    assert of_the_first["ring_customers_count"] == CLUSTER.limits["ip"] == 4
    assert (last["ring_customers_count"], last["ring_public_tokens_count"]) == (0, 1)


def test_a_chain_of_addresses_joins_no_more_than_the_largest_ring():
    chain = [pays(i / 1000, 100 + i // 2, ip=1 + (i + 1) // 2) for i in range(1000)]
    found = vectors(*chain, *(pays(2, 100 + i) for i in range(500)))[1000:]
    sizes = [row["ring_customers_count"] for row in found]
    assert max(sizes) == MOST_CUSTOMERS
    assert sum(sizes[:MOST_CUSTOMERS]) == MOST_CUSTOMERS**2


def test_a_ring_that_was_silent_for_the_retention_is_as_new():
    rows = [pays(0, 1, device=7), pays(1, 2, device=7), {"day": 2, "customer": 2, "label": 11}]
    before, after = (vectors(*rows, pays(day, 1, device=7), pays(day, 2))[-2:] for day in (400, 402))
    assert [row["ring_customers_count"] for row in before] == [2, 2]
    assert [row["ring_customers_count"] for row in after] == [0, 0]
    assert [row["ring_fraud_count"] for row in after] == [0, 0]


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_label_after_the_silence_is_its_customers_alone(first):
    ring = [pays(0, 1, device=7), pays(1, 2, device=7), pays(2, 3, device=7)]
    clock = pays(500, 9)
    *_, a, b, c = vectors(
        *ring, clock, {"day": 500, "customer": first, "label": 11}, *(pays(501, i) for i in (1, 2, 3))
    )
    assert [row["ring_fraud_count"] for row in (a, b, c)] == [float(customer == first) for customer in (1, 2, 3)]
    assert [row["ring_customers_count"] for row in (a, b, c)] == [float(customer == first) for customer in (1, 2, 3)]


def test_a_payment_whose_token_finds_no_place_below_the_cap_of_keys_is_marked():
    flow = Flow(Spec(7, 400, max_keys=3))
    flow.take(
        *log(
            pays(0, 1, card=5, device=6, email=7, ip=8),
            pays(1, 1, card=5, device=6, email=7),
            pays(2, 1, card=5, ip=8),
            pays(3, 1, card=5),
        )
    )
    assert flow.capped.tolist() == [True, False, True, False]


def test_nobody_has_no_ring():
    (found,) = vectors({"day": 0, "customer": 0, "device": 7})
    assert all(np.isnan(found[f.name]) for f in FEATURES if f.entity == "cluster")


def test_rings_of_a_random_crowd_equal_their_definition(seed):
    random = np.random.default_rng(seed)
    rows = []
    for i in range(600):
        customer = int(random.integers(1, 150))
        if random.random() < 0.1:
            rows.append({"day": i / 20, "customer": customer, "label": 10_000 + i})
        elif random.random() < 0.05 and (known := [row for row in rows if "label" in row]):
            # It carries the keys of the label that it takes back; now and then it does so twice.
            back = known[random.integers(0, len(known))]
            rows.append({"day": i / 20, "customer": back["customer"], "label": 10_000 + i, "reverses": back["label"]})
        else:
            tokens = {name: int(random.integers(0, 60)) for name in CLUSTER.limits if random.random() < 0.4}
            rows.append(pays(i / 20, customer, **tokens))
    events, labels = log(*rows)
    found, expected = Flow(SPEC).take(events, labels), brute.vectors(events, labels, 7).astype(np.float32)
    mine = [i for i, f in enumerate(FEATURES) if f.entity == "cluster"]
    assert len(mine) >= 12
    assert np.array_equal(found[:, mine], expected[:, mine], equal_nan=True), f"seed {seed}"
    assert found[:, NAMES.index("ring_customers_count")].max() > 20
