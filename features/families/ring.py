"""Who shares a card, device, e-mail or address with whom, and what is known of them."""

from typing import Final

from features.feature import Feature, ratio, value

_R: Final = "ring"
_C: Final = "cluster"

# One row a feature; a table reads better than a page of calls.
# fmt: off
FEATURES: tuple[Feature, ...] = (
    value("ring_customers_count", _R, _C, "customers", "customers", "customers of the rings that the payment's customer and tokens belong to", "synthetic_identity", "0"),
    value("ring_tokens_count", _R, _C, "tokens", "tokens", "cards, devices, e-mails and addresses of those rings", "synthetic_identity", "0"),
    value("ring_tx_count", _R, _C, "tx_count", "payments", "payments of those rings so far", "bust_out", "0"),
    value("ring_age_s", _R, _C, "age_s", "seconds", "time since the first payment of those rings", "synthetic_identity"),
    value("ring_fraud_count", _R, _C, "fraud_count", "labels", "confirmed frauds inside those rings", "synthetic_identity", "0"),
    value("ring_others_fraud_count", _R, _C, "others_fraud_count", "labels", "confirmed frauds of the other customers of those rings", "account_takeover", "0"),
    value("ring_fraud_amount_sum", _R, _C, "fraud_amount", "minor units", "amount of the confirmed frauds inside those rings", "bust_out", "0"),
    value("ring_since_fraud_s", _R, _C, "since_fraud_s", "seconds", "time since the last confirmed fraud inside those rings, also one taken back since; missing where none stands", "account_takeover"),
    value("ring_joined_count", _R, _C, "joined_count", "rings", "rings beside the customer's own that the payment's tokens belong to", "account_takeover", "0"),
    value("ring_public_tokens_count", _R, _C, "public_tokens", "tokens", "tokens of the payment that too many customers share to join anybody", "card_testing", "0"),
    ratio("ring_tokens_per_customer", _R, _C, "tokens", "customers", "ratio", "tokens per customer of those rings", "synthetic_identity"),
    ratio("ring_tx_per_customer", _R, _C, "tx_count", "customers", "ratio", "payments per customer of those rings", "bust_out"),
    ratio("ring_fraud_share", _R, _C, "fraud_count", "tx_count", "ratio", "confirmed frauds per payment of those rings", "account_takeover"),
)
