"""What a decision says of the entities that it names, and in which words a profile is fresh, stale or missing."""

import numpy as np
import pytest

from features.catalogue import FEATURES
from lakehouse import settings as conf
from lakehouse.errors import SettingsError
from serving.entities import described, looked_up, profile
from serving.profile_store import Covered, InProcess, Look
from serving.profiles import KINDS, Profile, entities, is_readable, payment_of
from serving.profiles import profile as profile_of
from tests.lakehouse.records import T0, record
from tests.serving.profiled import CARD, CUSTOMER, DEVICE, IP, decision, payment, vector

NOW = T0 + 60_000


def test_a_decision_names_every_entity_of_its_payment():
    assert entities(decision(merchant_id="M-9")) == [
        ("card", CARD),
        ("customer", CUSTOMER),
        ("merchant", "M-9"),
        ("device", DEVICE),
        ("ip", IP),
    ]
    assert [kind for kind, _ in entities(record("decision"))] == ["card", "customer", "merchant"]


def test_a_profile_holds_the_features_of_its_kind_and_unknown_is_not_zero():
    one = payment(values={"card_tx_count_1h": 3, "card_amount_sum_24h": 0.1, "merchant_tx_count_1h": np.inf})
    card = profile_of("card", one)
    assert set(card.values) == {feature.name for feature in FEATURES if feature.entity == "card"}
    assert card.values["card_tx_count_1h"] == 3.0
    assert card.values["card_amount_sum_24h"] == float(np.float32(0.1))
    assert card.values["card_tx_count_5m"] is None
    assert profile_of("merchant", one).values["merchant_tx_count_1h"] is None


def test_every_kind_has_features_and_they_are_the_kinds_of_the_catalogue():
    one = payment_of(decision(vector=vector()))
    assert KINDS == ("card", "customer", "merchant", "device", "ip")
    assert all(profile_of(kind, one).values for kind in KINDS)


def test_json_brings_back_the_same_bits():
    found = profile_of("card", payment(values={"card_amount_sum_24h": 0.1, "card_tx_count_1h": 2**24 - 1}))
    assert Profile.from_json(found.to_json()) == found


def test_a_vector_of_another_feature_set_is_not_read():
    assert is_readable(decision())
    assert not is_readable(decision(feature_set="00" * 32))
    assert not is_readable(decision(vector=bytes(8)))


@pytest.fixture(scope="module")
def limits():
    return conf.load().profiles


def look(covered, decided_at_ms=None):
    """What a store holds: a profile that was decided then, or none."""
    if decided_at_ms is None:
        return Look(None, covered)
    return Look(Profile("T", 0, 7, "t7", T0, decided_at_ms, "f", {"card_tx_count_1h": 3.0}), covered)


@pytest.mark.parametrize(
    ("found", "status", "reason"),
    [
        (
            look(Covered(0, NOW - 1_000), NOW - 12_000),
            "fresh",
            "The last payment of this card that was written here was decided 12 s ago; nothing later is missing.",
        ),
        (
            look(Covered(0, NOW - 42_000), NOW - 60_000),
            "stale",
            "The last payment of this card that was written here was decided 60 s ago; "
            "profiles have not been complete for 42 s.",
        ),
        (
            look(Covered(NOW - 20_000, NOW - 1_000), NOW - 60_000),
            "stale",
            "The last payment of this card that was written here was decided 60 s ago; "
            "profiles are complete only for payments of the last 20 s.",
        ),
        (
            look(None, NOW - 60_000),
            "stale",
            "The last payment of this card that was written here was decided 60 s ago; "
            "nobody has written profiles in the last while.",
        ),
        (
            look(Covered(0, NOW - 1_000)),
            "missing",
            "No payment of this card was decided in the last 300 s; profiles are kept so long.",
        ),
        (
            look(Covered(NOW - 20_000, NOW - 1_000)),
            "missing",
            "No profile of this card is here, which does not mean that it has not paid: "
            "profiles are complete only for payments of the last 20 s.",
        ),
        (
            look(None),
            "missing",
            "No profile of this card is here, which does not mean that it has not paid: "
            "nobody has written profiles in the last while.",
        ),
    ],
)
def test_the_status_is_explained_in_a_sentence(limits, found, status, reason):
    answer = described("card", found, NOW, limits)
    assert (answer.status, answer.reason) == (status, reason)


def test_a_profile_says_of_which_payment_it_is_and_how_old(limits):
    answer = described("card", look(Covered(0, NOW), NOW - 1_500), NOW, limits)
    assert (answer.age_s, answer.as_of.isoformat(), answer.transaction_id) == (1.5, "2025-01-06T08:00:00+00:00", "t7")
    assert answer.position.model_dump() == {"topic_id": "T", "partition": 0, "offset": 7}
    assert answer.values == {"card_tx_count_1h": 3.0}


def test_an_unknown_kind_is_refused_by_the_known_ones(limits):
    with pytest.raises(ValueError, match="no kind of entity 'terminal'; there are card, customer, merchant"):
        looked_up(InProcess(300, 10), limits, "terminal", "x")


def test_profiles_in_the_memory_of_the_api_cannot_be_read_elsewhere():
    with pytest.raises(SettingsError, match=r"in the memory of the API.*GET /v1/entities"):
        profile(conf.load(), "card", CARD)
