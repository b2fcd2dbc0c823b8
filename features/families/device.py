"""The device and the address: whose they are, how long known, how many share them, what they look like."""

from typing import Final

from features.expressions import Operation
from features.feature import SKETCHED, Feature, own, ratio, value, windowed

_D: Final = "device"

# One row a feature; a table reads better than a page of calls.
# fmt: off
FEATURES: tuple[Feature, ...] = (
    own("ip_is_proxy", _D, "flag", "the address belongs to a known proxy or hosting range", "account_takeover"),
    own("device_is_emulator", _D, "flag", "the device looks emulated", "card_testing"),
    own("device_is_rooted", _D, "flag", "the device looks rooted", "account_takeover"),
    own("device_is_known", _D, "flag", "the payment names a device", "card_testing"),
    own("timezone_gap_h", _D, "hours", "hours between the device's time zone and UTC+1, wherever the card was issued", "account_takeover"),
    value("device_age_s", _D, "device", "age_s", "seconds", "time since the device's first payment", "account_takeover"),
    value("device_since_last_s", _D, "device", "since_last_s", "seconds", "time since the device's last payment", "velocity_attack"),
    value("device_life_tx_count", _D, "device", "life_tx_count", "payments", "payments of the device so far", "account_takeover", "0"),
    value("device_days_active", _D, "device", "days_active", "days", "days on which the device paid", "account_takeover", "0"),
    *windowed(_D, "device", "tx_count", ("1h", "24h", "7d"), "payments", "payments of the device", "velocity_attack"),
    *windowed(_D, "device", "cards_distinct", ("1h", "24h", "30d"), "cards", "different cards on the device", "card_testing", SKETCHED),
    *windowed(_D, "device", "customers_distinct", ("24h", "30d"), "customers", "different customers on the device", "synthetic_identity", SKETCHED),
    *windowed(_D, "device", "declined_count", ("24h",), "declines", "declined payments of the device", "card_testing"),
    *windowed(_D, "customer", "devices_distinct", ("24h", "30d"), "devices", "different devices of the customer", "account_takeover", SKETCHED),
    *windowed(_D, "card", "ips_distinct", ("24h", "7d"), "addresses", "different addresses of the card", "account_takeover", SKETCHED),
    *windowed(_D, "ip", "customers_distinct", ("24h", "7d"), "customers", "different customers at the address", "card_testing", SKETCHED),
    *windowed(_D, "ip", "devices_distinct", ("24h",), "devices", "different devices at the address", "card_testing", SKETCHED),
    value("customer_device_known", _D, "customer_device", "is_known", "flag", "the customer used this device before", "account_takeover", "0"),
    value("customer_device_age_s", _D, "customer_device", "age_s", "seconds", "time since the customer first used this device", "account_takeover"),
    value("customer_device_tx_count", _D, "customer_device", "tx_count", "payments", "the customer's payments on this device so far", "account_takeover", "0"),
    value("customer_ip_known", _D, "customer_ip", "is_known", "flag", "the customer paid from this address before", "account_takeover", "0"),
    value("customer_ip_tx_count", _D, "customer_ip", "tx_count", "payments", "the customer's payments from this address so far", "account_takeover", "0"),
    value("card_device_known", _D, "card_device", "is_known", "flag", "the card was used on this device before", "card_testing", "0"),
    value("customer_same_device", _D, "customer", "same_device", "flag", "the same device as at the customer's last payment that named one", "account_takeover"),
    ratio("device_tx_per_card_30d", _D, "device", "tx_count_30d", "cards_distinct_30d", "payments", "payments per card on the device in 30 days", "card_testing", SKETCHED),
    Feature(
        "ip_cards_per_tx_24h", _D, "ip", Operation.SURPLUS, ("cards_distinct_24h", "tx_count_24h"), "ratio",
        "different cards per payment at the address in a day", "card_testing", "1", SKETCHED,
    ),
)
