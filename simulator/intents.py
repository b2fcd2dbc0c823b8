"""What somebody means to pay, before it becomes a record: who, when, where, for how much, with whose device.

Genuine customers and thieves fill the same columns, and one module (payments.py) makes records of them for both, so a
record cannot show by its form who stood behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from simulator.randomness import Doubles, Flags, Ints

CHANNELS = ("pos", "ecom", "moto", "atm", "wallet")
POS, ECOM, MOTO, ATM, WALLET = range(5)
ENTRIES = ("chip", "contactless", "swipe", "manual", "stored")
CHIP, CONTACTLESS, SWIPE, MANUAL, STORED = range(5)

USUAL = -1
"""Filled in as it usually is for such a payment."""

APPROVED = 0
REFUSALS = (
    "",
    "insufficient_funds",
    "do_not_honour",
    "exceeds_limit",
    "invalid_cvv",
    "expired_card",
    "wrong_pin",
)
FUNDS, HONOUR, LIMIT, CVV, EXPIRED, PIN = range(1, 7)

SCENARIOS = (
    "",
    "account_takeover",
    "card_testing",
    "velocity_attack",
    "impossible_travel",
    "amount_probing",
    "merchant_collusion",
    "synthetic_identity",
    "bust_out",
)

LOOKALIKES = (
    "",
    "travel",
    "new_phone",
    "shared_device",
    "single_use_device",
    "public_device",
    "vpn",
    "new_email",
    "new_address",
    "night_owl",
    "young_account",
    "large_purchase",
    "small_series",
    "rising_series",
    "funds_streak",
    "shopping_burst",
    "moving_house",
    "crowd",
    "clearance_sale",
)
(
    TRAVEL,
    NEW_PHONE,
    SHARED_DEVICE,
    SINGLE_USE_DEVICE,
    PUBLIC_DEVICE,
    VPN,
    NEW_EMAIL,
    NEW_ADDRESS,
    NIGHT_OWL,
    YOUNG_ACCOUNT,
    LARGE_PURCHASE,
    SMALL_SERIES,
    RISING_SERIES,
    FUNDS_STREAK,
    SHOPPING_BURST,
    MOVING_HOUSE,
    CROWD,
    CLEARANCE_SALE,
) = range(1, 19)


def _column(kind: type[np.generic], default: int | bool) -> npt.NDArray[np.generic]:
    return np.array(default, kind)


_DEFAULTS = {
    "card": _column(np.int64, 0),
    "entry": _column(np.int64, USUAL),
    "device": _column(np.int64, -1),
    "owner": _column(np.int64, USUAL),
    "tampered": _column(np.bool_, False),
    "network": _column(np.int64, -1),
    "network_city": _column(np.int64, 0),
    "email": _column(np.int64, USUAL),
    "shipping": _column(np.int64, USUAL),
    "refused": _column(np.int64, USUAL),
    "stranger": _column(np.bool_, False),
    "familiar": _column(np.bool_, False),
    "recurring": _column(np.bool_, False),
    "scenario": _column(np.int64, 0),
    "episode": _column(np.int64, -1),
    "is_fraud": _column(np.bool_, False),
    "lookalike": _column(np.int64, 0),
}


@dataclass(frozen=True)
class Intents:
    """Columns, one entry a payment."""

    at_ms: Ints
    customer: Ints
    merchant: Ints
    channel: Ints
    euros: Doubles
    """What it costs in euros, before the merchant's price style and currency."""
    city: Ints
    """Where the payer is."""
    card: Ints
    """0 or 1: which of the customer's cards."""
    entry: Ints
    device: Ints
    owner: Ints
    """The customer whose language the device speaks."""
    tampered: Flags
    """The device is more likely than others to be emulated or rooted."""
    network: Ints
    network_city: Ints
    """Where the network address is believed to be."""
    email: Ints
    shipping: Ints
    refused: Ints
    """The issuer's reason, an index into REFUSALS."""
    stranger: Flags
    """The payer is not the card's holder and knows less than the holder."""
    familiar: Flags
    """The merchant knows the customer."""
    recurring: Flags
    scenario: Ints
    episode: Ints
    is_fraud: Flags
    lookalike: Ints

    def __len__(self) -> int:
        return len(self.at_ms)

    def take(self, chosen: Ints | Flags) -> "Intents":
        """The chosen rows."""
        return Intents(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})


def intents(
    at_ms: Ints,
    customer: Ints,
    merchant: Ints,
    channel: Ints,
    euros: Doubles,
    city: Ints,
    **others: npt.NDArray[np.generic] | int | bool,
) -> Intents:
    """Intents of these columns; what is not named is as usual."""
    n = len(at_ms)
    rest = {name: np.broadcast_to(others.pop(name, default), n) for name, default in _DEFAULTS.items()}
    assert not others, f"unknown columns {sorted(others)}"
    return Intents(at_ms, customer, merchant, channel, euros, city, **rest)


def empty() -> Intents:
    """Nobody means to pay anything."""
    nothing = np.zeros(0, np.int64)
    return intents(nothing, nothing, nothing, nothing, np.zeros(0), nothing)


def concat(parts: Sequence[Intents]) -> Intents:
    """One after the other."""
    if not parts:
        return empty()
    return Intents(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Intents)})
