"""How much, how fast: counts, sums and distinct counterparts in short windows."""

from typing import Final

from features.expressions import Operation
from features.feature import FAR_EDGE, SKETCHED, Feature, ratio, windowed

_V: Final = "velocity"

# One row a feature; a table reads better than a page of calls.
# fmt: off
FEATURES: tuple[Feature, ...] = (
    *windowed(_V, "card", "tx_count", ("1m", "5m", "1h", "6h", "24h", "7d", "30d"), "payments", "payments of the card", "velocity_attack"),
    *windowed(_V, "card", "amount_sum", ("1h", "24h", "7d", "30d"), "minor units", "amount paid with the card", "bust_out"),
    *windowed(_V, "card", "merchants_distinct", ("1h", "24h", "7d"), "merchants", "different merchants of the card", "velocity_attack", SKETCHED),
    *windowed(_V, "card", "declined_count", ("1h", "24h", "7d"), "declines", "declined payments of the card", "card_testing"),
    *windowed(_V, "card", "small_count", ("1h", "24h"), "payments", "small payments of the card", "card_testing"),
    *windowed(_V, "card", "remote_count", ("1h", "24h"), "payments", "payments of the card without its presence", "velocity_attack"),
    *windowed(_V, "customer", "tx_count", ("1h", "24h", "7d", "30d"), "payments", "payments of the customer", "velocity_attack"),
    *windowed(_V, "customer", "amount_sum", ("24h", "7d", "30d"), "minor units", "amount paid by the customer", "bust_out"),
    *windowed(_V, "merchant", "tx_count", ("5m", "1h", "24h", "7d"), "payments", "payments at the merchant", "card_testing"),
    *windowed(_V, "merchant", "cards_distinct", ("1h", "24h"), "cards", "different cards at the merchant", "card_testing", SKETCHED),
    *windowed(_V, "merchant", "declined_count", ("1h", "24h"), "declines", "declined payments at the merchant", "card_testing"),
    *windowed(_V, "merchant", "small_count", ("1h",), "payments", "small payments at the merchant", "card_testing"),
    *windowed(_V, "ip", "tx_count", ("5m", "1h", "24h"), "payments", "payments from the address", "card_testing"),
    *windowed(_V, "ip", "cards_distinct", ("1h", "24h"), "cards", "different cards from the address", "card_testing", SKETCHED),
    *windowed(_V, "ip", "declined_count", ("1h",), "declines", "declined payments from the address", "card_testing"),
    Feature(
        "card_tx_burst_1h",
        _V,
        "card",
        Operation.SURPLUS,
        ("tx_count_1h", "tx_count_24h"),
        "ratio",
        "share of the card's last day that fell into its last hour",
        "velocity_attack",
        "1",
        FAR_EDGE,
    ),
    Feature(
        "card_tx_surplus_24h",
        _V,
        "card",
        Operation.SURPLUS,
        ("tx_count_24h", "tx_count_7d"),
        "ratio",
        "share of the card's last week that fell into its last day",
        "velocity_attack",
        "1",
        FAR_EDGE,
    ),
    Feature(
        "merchant_tx_burst_1h",
        _V,
        "merchant",
        Operation.SURPLUS,
        ("tx_count_1h", "tx_count_24h"),
        "ratio",
        "share of the merchant's last day that fell into its last hour",
        "card_testing",
        "1",
        FAR_EDGE,
    ),
    ratio(
        "merchant_declined_share_24h", _V, "merchant", "declined_count_24h", "tx_count_24h", "ratio",
        "declined payments at the merchant per payment of its last day", "card_testing", FAR_EDGE,
    ),
    ratio(
        "card_declined_share_7d", _V, "card", "declined_count_7d", "tx_count_7d", "ratio",
        "declined payments of the card per payment of its last week", "card_testing", FAR_EDGE,
    ),
)
