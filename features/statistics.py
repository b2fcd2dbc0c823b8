"""The statistics that the kernel can compute, by name: what a feature may use as input.

Four groups, each a row of float64 with fixed places: the payment's own (`PAYMENT`), an entity's (`ENTITY`), a pair's
(`PAIR`) and a ring of customers' (`CLUSTER`). NaN is "unknown".
"""

from collections.abc import Mapping

from features.entities import PLURALS, Entity
from features.windows import LABEL_WINDOWS, WINDOWS

PAYMENT = (
    *(
        "amount_minor",
        "amount_log",
        "amount_is_round",
        "amount_is_small",
        "hour_utc",
        "weekday",
        "is_night",
        "is_weekend",
    ),
    *("is_remote", "is_wallet", "is_atm", "is_manual_entry", "is_swipe", "is_stored", "is_recurring", "is_new_payee"),
    *("category_risk", "country_risk", "merchant_is_foreign", "ip_is_foreign", "ip_differs_from_merchant"),
    *("shipping_country_differs", "billing_country_differs", "addresses_differ", "timezone_gap_h"),
    *("ip_is_proxy", "device_is_emulator", "device_is_rooted", "device_is_known", "cvv_failed", "avs_failed"),
    *("three_ds_failed", "three_ds_absent", "pin_attempts", "account_age_d", "card_age_d", "seconds_late"),
)

WINDOWED = (
    *("tx_count", "amount_sum", "amount_max", "amount_mean", "amount_std"),
    *("distinct_1", "distinct_2", "distinct_3", "distinct_4"),
    *("declined_count", "remote_count", "small_count", "foreign_count"),
)
"""Per window, in this order; distinct_k counts the entity's k-th counterpart."""

LONG_TERM = (
    *("is_known", "age_s", "since_last_s", "life_tx_count", "life_amount_sum", "life_amount_mean", "life_amount_std"),
    *("life_amount_max", "last_amount", "days_active", "mean_gap_s", "hour_share", "weekday_share"),
    *("distance_last_km", "speed_kmh", "distance_home_km", "located_count"),
    *("same_country", "same_merchant", "same_device", "same_ip", "same_category"),
    *("rising_streak", "small_streak", "repeat_streak", "decline_streak"),
    *("life_declined", "life_remote", "life_foreign", "life_fraud", "life_fraud_amount", "since_fraud_s"),
)

_WINDOW_PLACES = tuple(f"{statistic}_{window}" for window in WINDOWS for statistic in WINDOWED)
_LABEL_PLACES = tuple(f"fraud_count_{window}" for window in LABEL_WINDOWS)
_DELAYED_PLACES = tuple(f"delayed_tx_count_{window}" for window in LABEL_WINDOWS)
_RUN_PLACES = ("since_first_fraud_s_30d", "cleared_count_since_fraud_30d")
ENTITY = (*_WINDOW_PLACES, *_LABEL_PLACES, *_DELAYED_PLACES, *_RUN_PLACES, *LONG_TERM)

PAIR = ("is_known", "age_s", "since_last_s", "tx_count", "amount_sum", "amount_mean", "amount_max")

CLUSTER = (
    *("customers", "tokens", "tx_count", "age_s", "fraud_count", "others_fraud_count", "fraud_amount", "since_fraud_s"),
    *("joined_count", "public_tokens"),
)
"""Of the rings that a payment's customer and tokens belong to, together."""

LONG_TERM_AT = ENTITY.index("is_known")
LABEL_AT = ENTITY.index(_LABEL_PLACES[0])
DELAYED_AT = ENTITY.index(_DELAYED_PLACES[0])
RUN_AT = ENTITY.index(_RUN_PLACES[0])


def entity_places(entity: Entity) -> Mapping[str, int]:
    """Place of every statistic of an entity; distinct counts under the counterpart's name, `merchants_distinct_24h`."""
    places = {name: at for at, name in enumerate(ENTITY)}
    for number, counterpart in enumerate(entity.counterparts, start=1):
        for window in WINDOWS:
            places[f"{PLURALS[counterpart]}_distinct_{window}"] = places[f"distinct_{number}_{window}"]
    return {name: at for name, at in places.items() if not name.startswith("distinct_")}


def pair_places() -> Mapping[str, int]:
    """Place of every statistic of a pair."""
    return {name: at for at, name in enumerate(PAIR)}


def payment_places() -> Mapping[str, int]:
    """Place of every statistic of the payment itself."""
    return {name: at for at, name in enumerate(PAYMENT)}


def cluster_places() -> Mapping[str, int]:
    """Place of every statistic of a ring of customers."""
    return {name: at for at, name in enumerate(CLUSTER)}
