"""How long known, how much seen, and what was found to be fraud before."""

from typing import Final

from features.expressions import Operation
from features.feature import DELAYED_EDGE, FAR_EDGE, Feature, own, ratio, value, windowed

_H: Final = "history"


def _fraud_rate(entity: str, window: str, pattern: str) -> Feature:
    return Feature(
        f"{entity}_fraud_rate_{window}",
        _H,
        entity,
        Operation.RATIO,
        (f"fraud_count_{window}", f"delayed_tx_count_{window}"),
        "ratio",
        f"fraud labels that became available in {window} over the {entity}'s payments of that window, moved back by the "
        "label delay",
        pattern,
        "missing",
        DELAYED_EDGE,
    )


# One row a feature; a table reads better than a page of calls.
# fmt: off
FEATURES: tuple[Feature, ...] = (
    own("account_age_d", _H, "days", "age of the customer's account", "synthetic_identity"),
    own("card_age_d", _H, "days", "age of the card", "synthetic_identity"),
    own("seconds_late", _H, "seconds", "how much later than it happened the payment arrived", "velocity_attack"),
    value("card_age_s", _H, "card", "age_s", "seconds", "time since the card's first payment", "synthetic_identity"),
    value("customer_age_s", _H, "customer", "age_s", "seconds", "time since the customer's first payment", "synthetic_identity"),
    value("merchant_age_s", _H, "merchant", "age_s", "seconds", "time since the merchant's first payment", "merchant_collusion"),
    value("ip_age_s", _H, "ip", "age_s", "seconds", "time since the address's first payment", "account_takeover"),
    value("card_life_tx_count", _H, "card", "life_tx_count", "payments", "payments of the card so far", "synthetic_identity", "0"),
    value("customer_life_tx_count", _H, "customer", "life_tx_count", "payments", "payments of the customer so far", "synthetic_identity", "0"),
    value("merchant_life_tx_count", _H, "merchant", "life_tx_count", "payments", "payments at the merchant so far", "merchant_collusion", "0"),
    value("ip_life_tx_count", _H, "ip", "life_tx_count", "payments", "payments from the address so far", "card_testing", "0"),
    value("card_life_amount_sum", _H, "card", "life_amount_sum", "minor units", "amount paid with the card so far", "bust_out", "0"),
    value("card_life_amount_mean", _H, "card", "life_amount_mean", "minor units", "mean amount of the card so far", "bust_out"),
    value("card_life_amount_std", _H, "card", "life_amount_std", "minor units", "spread of the card's amounts so far", "bust_out"),
    value("card_life_amount_max", _H, "card", "life_amount_max", "minor units", "largest amount of the card so far", "bust_out"),
    value("customer_life_amount_mean", _H, "customer", "life_amount_mean", "minor units", "mean amount of the customer so far", "bust_out"),
    value("card_days_active", _H, "card", "days_active", "days", "days on which the card paid", "synthetic_identity", "0"),
    value("merchant_days_active", _H, "merchant", "days_active", "days", "days on which the merchant was paid", "merchant_collusion", "0"),
    value("card_mean_gap_s", _H, "card", "mean_gap_s", "seconds", "usual time between payments of the card", "velocity_attack"),
    ratio("card_declined_share_life", _H, "card", "life_declined", "life_tx_count", "ratio", "declined payments of the card per payment so far", "card_testing"),
    ratio("merchant_declined_share_life", _H, "merchant", "life_declined", "life_tx_count", "ratio", "declined payments at the merchant per payment so far", "card_testing"),
    value("merchant_life_amount_mean", _H, "merchant", "life_amount_mean", "minor units", "mean amount at the merchant so far", "merchant_collusion"),
    _fraud_rate("merchant", "1d", "merchant_collusion"),
    _fraud_rate("merchant", "7d", "merchant_collusion"),
    _fraud_rate("merchant", "30d", "merchant_collusion"),
    _fraud_rate("card", "30d", "velocity_attack"),
    _fraud_rate("ip", "30d", "card_testing"),
    *windowed(_H, "merchant", "fraud_count", ("7d", "30d"), "labels", "fraud labels at the merchant that became available", "merchant_collusion", "exact"),
    *windowed(_H, "card", "fraud_count", ("7d", "30d"), "labels", "fraud labels of the card that became available", "velocity_attack", "exact"),
    *windowed(_H, "device", "fraud_count", ("30d",), "labels", "fraud labels of the device that became available", "account_takeover", "exact"),
    *windowed(_H, "ip", "fraud_count", ("30d",), "labels", "fraud labels of the address that became available", "card_testing", "exact"),
    value("customer_life_fraud", _H, "customer", "life_fraud", "labels", "fraud labels of the customer so far", "account_takeover", "0"),
    value("merchant_life_fraud", _H, "merchant", "life_fraud", "labels", "fraud labels at the merchant so far", "merchant_collusion", "0"),
    value("merchant_since_fraud_s", _H, "merchant", "since_fraud_s", "seconds", "time since the merchant's last fraud label, also one taken back since; missing where none stands", "merchant_collusion"),
    Feature("merchant_since_first_fraud_s_30d", _H, "merchant", Operation.VALUE, ("since_first_fraud_s_30d",), "seconds", "time since the oldest of the merchant's fraud labels that became available in the 30d before this payment", "merchant_collusion"),
    Feature("merchant_cleared_count_since_fraud_30d", _H, "merchant", Operation.VALUE, ("cleared_count_since_fraud_30d",), "payments", "payments at the merchant that outlived the label delay since its newest fraud label of the 30d before this payment", "merchant_collusion", "missing", DELAYED_EDGE),
    value("customer_since_fraud_s", _H, "customer", "since_fraud_s", "seconds", "time since the customer's last fraud label, also one taken back since; missing where none stands", "account_takeover"),
    value("customer_life_fraud_amount", _H, "customer", "life_fraud_amount", "minor units", "amount of the customer's fraud so far", "bust_out", "0"),
    ratio("merchant_fraud_share_life", _H, "merchant", "life_fraud", "life_tx_count", "ratio", "fraud labels per payment at the merchant so far", "merchant_collusion"),
    *windowed(_H, "merchant", "amount_std", ("7d",), "minor units", "spread of the merchant's amounts", "merchant_collusion", FAR_EDGE, "missing"),
)
