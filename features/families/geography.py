"""Where: distance and speed from past places, countries, corridors."""

from typing import Final

from features.expressions import Operation
from features.feature import FAR_EDGE, SKETCHED, Feature, own, ratio, value, windowed

_G: Final = "geography"

# One row a feature; a table reads better than a page of calls.
# fmt: off
FEATURES: tuple[Feature, ...] = (
    own("merchant_is_foreign", _G, "flag", "the merchant's country is not the issuer's", "impossible_travel"),
    own("ip_is_foreign", _G, "flag", "the address's country is not the issuer's", "account_takeover"),
    own("ip_differs_from_merchant", _G, "flag", "the address's country is not the merchant's", "account_takeover"),
    own("shipping_country_differs", _G, "flag", "shipped to another country than billed", "account_takeover"),
    own("billing_country_differs", _G, "flag", "billed to another country than the issuer's", "synthetic_identity"),
    own("addresses_differ", _G, "flag", "shipped to another address than billed", "account_takeover"),
    own("country_risk", _G, "0 to 1", "risk of the merchant's country", "impossible_travel"),
    value("card_distance_last_km", _G, "card", "distance_last_km", "km", "distance from the card's last known place", "impossible_travel"),
    value("card_speed_kmh", _G, "card", "speed_kmh", "km/h", "speed from the card's last known place, by true event times", "impossible_travel"),
    value("card_distance_home_km", _G, "card", "distance_home_km", "km", "distance from the middle of the card's past places", "impossible_travel"),
    value("customer_distance_last_km", _G, "customer", "distance_last_km", "km", "distance from the customer's last known place", "impossible_travel"),
    value("customer_speed_kmh", _G, "customer", "speed_kmh", "km/h", "speed from the customer's last known place", "impossible_travel"),
    value("customer_distance_home_km", _G, "customer", "distance_home_km", "km", "distance from the middle of the customer's past places", "impossible_travel"),
    value("device_distance_last_km", _G, "device", "distance_last_km", "km", "distance from the device's last known place", "account_takeover"),
    value("merchant_distance_home_km", _G, "merchant", "distance_home_km", "km", "distance from the middle of the merchant's past places", "merchant_collusion"),
    value("card_located_count", _G, "card", "located_count", "payments", "payments of the card with a known place so far", "impossible_travel", "0"),
    value("card_same_country", _G, "card", "same_country", "flag", "the same merchant country as at the card's last payment that named one", "impossible_travel"),
    value("customer_same_country", _G, "customer", "same_country", "flag", "the same merchant country as at the customer's last payment that named one", "impossible_travel"),
    value("customer_same_ip", _G, "customer", "same_ip", "flag", "the same address as at the customer's last payment that named one", "account_takeover"),
    *windowed(_G, "card", "countries_distinct", ("1h", "24h", "7d", "30d"), "countries", "different merchant countries of the card", "impossible_travel", SKETCHED),
    *windowed(_G, "customer", "countries_distinct", ("24h", "7d"), "countries", "different merchant countries of the customer", "impossible_travel", SKETCHED),
    *windowed(_G, "card", "foreign_count", ("24h", "7d", "30d"), "payments", "payments of the card abroad", "impossible_travel"),
    *windowed(_G, "merchant", "issuer_countries_distinct", ("24h",), "countries", "different issuer countries at the merchant", "card_testing", SKETCHED),
    ratio("card_foreign_share_30d", _G, "card", "foreign_count_30d", "tx_count_30d", "ratio", "share of the card's last 30 days abroad", "impossible_travel", FAR_EDGE),
    ratio("customer_foreign_share_life", _G, "customer", "life_foreign", "life_tx_count", "ratio", "share of the customer's payments abroad so far", "impossible_travel"),
    ratio("merchant_foreign_share_24h", _G, "merchant", "foreign_count_24h", "tx_count_24h", "ratio", "share of foreign cards at the merchant in a day", "card_testing", FAR_EDGE),
    value("customer_country_known", _G, "customer_country", "is_known", "flag", "the customer paid in this country before", "impossible_travel", "0"),
    value("customer_country_tx_count", _G, "customer_country", "tx_count", "payments", "the customer's payments in this country so far", "impossible_travel", "0"),
    value("customer_country_since_last_s", _G, "customer_country", "since_last_s", "seconds", "time since the customer last paid in this country", "impossible_travel"),
    Feature(
        "card_distance_surplus", _G, "card", Operation.SURPLUS, ("distance_last_km", "distance_home_km"), "ratio",
        "distance from the last place over the distance from the middle of all", "impossible_travel",
    ),
)
