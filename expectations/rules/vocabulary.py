"""What a rule may name: every feature, the payment's own fields, and whether somebody is on a list.

Numbers are doubles; a feature that is missing is NULL. None of it is personal in the clear.
"""

from collections.abc import Mapping

from expectations.rules.feature_names import FEATURE_NAMES
from expectations.rules.tree import Type
from lakehouse.contracts.silver import PAYMENTS

PATTERNS = (
    *("account_takeover", "card_testing", "velocity_attack", "impossible_travel"),
    *("amount_probing", "merchant_collusion", "synthetic_identity", "bust_out"),
)
"""Of fraud: what a feature or a rule serves, and the simulator plays."""
LISTS = ("block", "allow", "watch")
ENTITIES = ("card", "customer", "device", "ip", "email", "merchant")
"""Kinds of what a list can hold: tokens, and merchants by their id."""
MEMBERSHIPS: Mapping[str, tuple[str, str]] = {
    f"{kind}_on_{name}_list": (name, kind) for name in LISTS for kind in ENTITIES
}
"""Column -> (list, kind of entity)."""

_TYPES = {"string": Type.TEXT, "bigint": Type.NUMBER, "int": Type.NUMBER, "double": Type.NUMBER}
_FIELDS = (
    *("amount_base_minor", "currency", "channel", "entry_mode", "merchant_id", "terminal_id", "merchant_category_code"),
    *("merchant_country", "issuer_country", "ip_country", "billing_country", "shipping_country"),
    *("latitude", "longitude", "device_os", "browser", "screen", "language", "timezone_offset_min"),
    *("cvv_result", "avs_result", "three_ds_result"),
)
_SPARK_TYPES = {column.name: column.type for column in PAYMENTS.columns}
PAYMENT_FIELDS: Mapping[str, Type] = {name: _TYPES[_SPARK_TYPES[name]] for name in _FIELDS}
"""Columns of silver.payments. What the catalogue also has (`pin_attempts`, `is_recurring`, ...) is the feature: 0 or 1
for a flag."""

AMBIGUOUS: Mapping[str, str] = {
    "amount_minor": "Write amount_base_minor: exact, and in base currency for every payment.",
}
"""Names that a table and the catalogue use for different things -> what to write instead."""

COLUMNS: Mapping[str, Type] = {
    **{name: Type.NUMBER for name in FEATURE_NAMES if name not in AMBIGUOUS},
    **PAYMENT_FIELDS,
    **dict.fromkeys(MEMBERSHIPS, Type.CONDITION),
}
FEATURES = frozenset(FEATURE_NAMES)

assert not FEATURES & {*PAYMENT_FIELDS, *MEMBERSHIPS}, "a name of the catalogue is also a field's"
