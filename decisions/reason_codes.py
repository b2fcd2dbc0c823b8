"""Reason codes with a sentence for people: stable, because letters to customers and other systems name them.

Codes of rules stand beside the rules (`conf/rules.json`); these are those of lists and of the models, whose features
speak by family (`features/catalogue.py`).
"""

from collections.abc import Mapping
from typing import get_args

from features.feature import Family

FAMILIES: tuple[Family, ...] = get_args(Family)

CODES: Mapping[Family, str] = {
    "velocity": "MODEL_VELOCITY",
    "device": "MODEL_DEVICE",
    "behaviour": "MODEL_BEHAVIOUR",
    "geography": "MODEL_GEOGRAPHY",
    "history": "MODEL_HISTORY",
    "ring": "MODEL_RING",
}
"""Family of features -> code."""

SENTENCES: Mapping[str, str] = {
    "MODEL_VELOCITY": "The number, sum or pace of recent payments is unlike that of payments in good order.",
    "MODEL_DEVICE": "The device, the address on the internet or what is known of them is unusual for this payment.",
    "MODEL_BEHAVIOUR": "The payment is unlike what this card or customer usually does.",
    "MODEL_GEOGRAPHY": "The places of this payment do not fit each other, or those of earlier ones.",
    "MODEL_HISTORY": "Earlier payments of the card, customer, merchant or device were declined or reported as fraud.",
    "MODEL_RING": "The payment is connected with others that share cards, devices or addresses.",
    "LIST_BLOCK": "The card, customer, device, address, e-mail or merchant is on a block list.",
    "LIST_ALLOW": "The card, customer, device, address, e-mail or merchant is on an allow list.",
}
"""Code -> sentence."""
