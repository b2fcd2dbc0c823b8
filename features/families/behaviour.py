"""What this customer and card usually do, and how far this payment is from it."""

from typing import Final

from features.expressions import Operation
from features.feature import FAR_EDGE, SKETCHED, Feature, own, ratio, value, windowed

_B: Final = "behaviour"


def _zscore(entity: str, mean: str, deviation: str, window: str, meaning: str, pattern: str) -> Feature:
    return Feature(
        f"{entity}_amount_zscore_{window}",
        _B,
        entity,
        Operation.ZSCORE,
        ("payment.amount_minor", mean, deviation),
        "deviations",
        meaning,
        pattern,
        "missing",
        FAR_EDGE if window != "life" else "exact",
    )


# One row a feature; a table reads better than a page of calls.
# fmt: off
FEATURES: tuple[Feature, ...] = (
    own("amount_minor", _B, "minor units", "the amount in base currency", "bust_out"),
    own("amount_is_round", _B, "flag", "a multiple of 1,000 minor units of its currency (ten units where it has two decimals), and not zero", "amount_probing"),
    own("amount_is_small", _B, "flag", "at most five units of base currency", "card_testing"),
    own("hour_utc", _B, "hours", "hour of the day, UTC", "account_takeover"),
    own("weekday", _B, "days", "day of the week, Monday 0", "velocity_attack"),
    own("is_remote", _B, "flag", "the card was not present", "card_testing"),
    own("is_wallet", _B, "flag", "paid with a wallet", "account_takeover"),
    own("is_atm", _B, "flag", "cash", "bust_out"),
    own("is_manual_entry", _B, "flag", "the card number was typed", "card_testing"),
    own("is_swipe", _B, "flag", "the magnetic stripe was read", "impossible_travel"),
    own("is_stored", _B, "flag", "the merchant had the card on file", "velocity_attack"),
    own("is_recurring", _B, "flag", "charged on an agreement", "velocity_attack"),
    own("is_new_payee", _B, "flag", "the merchant says this customer is new", "account_takeover"),
    own("category_risk", _B, "0 to 1", "risk of the merchant category", "velocity_attack"),
    own("cvv_failed", _B, "flag", "a result of the security code's check that is not a match (M), also where it could not be made", "card_testing"),
    own("avs_failed", _B, "flag", "a result of the address check that is not a full match (Y), also where it could not be made", "account_takeover"),
    own("three_ds_failed", _B, "flag", "a result of 3-D Secure that is neither authenticated (Y) nor attempted (A)", "account_takeover"),
    own("three_ds_absent", _B, "flag", "a remote payment without 3-D Secure", "card_testing"),
    own("pin_attempts", _B, "tries", "tries of the PIN", "account_takeover"),
    _zscore("card", "amount_mean_30d", "amount_std_30d", "30d", "amount against the card's last 30 days", "bust_out"),
    _zscore("card", "life_amount_mean", "life_amount_std", "life", "amount against all of the card's payments", "bust_out"),
    _zscore("customer", "life_amount_mean", "life_amount_std", "life", "amount against all of the customer's payments", "account_takeover"),
    _zscore("merchant", "amount_mean_30d", "amount_std_30d", "30d", "amount against the merchant's last 30 days", "merchant_collusion"),
    ratio("card_amount_to_max_life", _B, "card", "payment.amount_minor", "life_amount_max", "ratio", "amount over the card's largest so far", "bust_out"),
    ratio("customer_amount_to_mean_7d", _B, "customer", "payment.amount_minor", "amount_mean_7d", "ratio", "amount over the customer's mean of 7 days", "bust_out", FAR_EDGE),
    ratio("card_amount_to_last", _B, "card", "payment.amount_minor", "last_amount", "ratio", "amount over the card's last one", "amount_probing"),
    ratio("merchant_amount_to_mean_24h", _B, "merchant", "payment.amount_minor", "amount_mean_24h", "ratio", "amount over the merchant's mean of a day", "merchant_collusion", FAR_EDGE),
    *windowed(_B, "card", "amount_max", ("24h", "7d"), "minor units", "largest amount of the card", "amount_probing", FAR_EDGE, "missing"),
    *windowed(_B, "card", "amount_std", ("24h", "7d"), "minor units", "spread of the card's amounts", "amount_probing", FAR_EDGE, "missing"),
    value("card_since_last_s", _B, "card", "since_last_s", "seconds", "time since the card's last payment", "velocity_attack"),
    value("customer_since_last_s", _B, "customer", "since_last_s", "seconds", "time since the customer's last payment", "velocity_attack"),
    ratio("card_gap_to_usual", _B, "card", "since_last_s", "mean_gap_s", "ratio", "time since the card's last payment over its usual gap", "velocity_attack"),
    value("customer_hour_share", _B, "customer", "hour_share", "ratio", "share of the customer's payments in this hour of the day, UTC, the one before and the one after", "account_takeover"),
    value("customer_weekday_share", _B, "customer", "weekday_share", "ratio", "share of the customer's payments on this weekday, UTC", "account_takeover"),
    value("card_rising_streak", _B, "card", "rising_streak", "payments", "payments in a row, each larger than the one before", "amount_probing", "0"),
    value("card_small_streak", _B, "card", "small_streak", "payments", "small payments in a row", "card_testing", "0"),
    value("card_repeat_streak", _B, "card", "repeat_streak", "payments", "equal amounts in a row", "velocity_attack", "0"),
    value("card_decline_streak", _B, "card", "decline_streak", "declines", "declines in a row until now", "card_testing", "0"),
    value("device_small_streak", _B, "device", "small_streak", "payments", "small payments in a row on the device", "card_testing", "0"),
    value("merchant_repeat_streak", _B, "merchant", "repeat_streak", "payments", "equal amounts in a row at the merchant", "merchant_collusion", "0"),
    value("customer_merchant_known", _B, "customer_merchant", "is_known", "flag", "the customer paid this merchant before", "account_takeover", "0"),
    value("customer_merchant_tx_count", _B, "customer_merchant", "tx_count", "payments", "the customer's payments to this merchant so far", "merchant_collusion", "0"),
    value("customer_merchant_since_last_s", _B, "customer_merchant", "since_last_s", "seconds", "time since the customer last paid this merchant", "merchant_collusion"),
    ratio("customer_merchant_amount_to_mean", _B, "customer_merchant", "payment.amount_minor", "amount_mean", "ratio", "amount over the customer's mean at this merchant", "merchant_collusion"),
    value("customer_category_known", _B, "customer_category", "is_known", "flag", "the customer paid in this category before", "account_takeover", "0"),
    value("customer_category_tx_count", _B, "customer_category", "tx_count", "payments", "the customer's payments in this category so far", "account_takeover", "0"),
    ratio("customer_category_amount_to_mean", _B, "customer_category", "payment.amount_minor", "amount_mean", "ratio", "amount over the customer's mean in this category", "account_takeover"),
    ratio("customer_remote_share_life", _B, "customer", "life_remote", "life_tx_count", "ratio", "share of the customer's payments without the card", "account_takeover"),
    ratio("card_merchants_per_tx_24h", _B, "card", "merchants_distinct_24h", "tx_count_24h", "ratio", "different merchants per payment of the card in a day", "velocity_attack", SKETCHED),
    ratio("card_amount_sum_24h_to_30d", _B, "card", "amount_sum_24h", "amount_sum_30d", "ratio", "share of the card's last 30 days that was paid in its last day", "bust_out", FAR_EDGE),
    ratio("card_remote_share_24h", _B, "card", "remote_count_24h", "tx_count_24h", "ratio", "share of the card's last day without its presence", "velocity_attack", FAR_EDGE),
)
