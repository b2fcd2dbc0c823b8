"""Merchant categories: ISO 18245 codes, what a payment costs there, and who sells how."""

import numpy as np

# code, name, typical euros (median), spread (sigma of the logarithm), weight among shops of a street, weight online,
# price style, ships goods, likes telephone orders.
# Medians and spreads are chosen so that a basket looks like one; what matters is that they overlap widely: between the
# 5th and the 95th percentile of every category lie payments of nearly every other.
_ROWS = (
    ("5411", "groceries", 24, 0.8, 22, 4, "cents", 1, 0),
    ("5499", "corner shop", 9, 0.7, 9, 0, "cents", 0, 0),
    ("5462", "bakery", 6, 0.6, 8, 0, "tens", 0, 0),
    ("5812", "restaurant", 34, 0.7, 10, 0, "tens", 0, 0),
    ("5814", "fast food", 12, 0.6, 9, 6, "tens", 0, 0),
    ("5813", "bar", 19, 0.7, 4, 0, "tens", 0, 0),
    ("5541", "fuel", 52, 0.6, 6, 0, "cents", 0, 0),
    ("5912", "pharmacy", 17, 0.8, 5, 3, "cents", 1, 0),
    ("4111", "local transport", 4, 0.8, 5, 3, "tens", 0, 0),
    ("4121", "taxi", 17, 0.6, 2, 3, "tens", 0, 0),
    ("7523", "parking", 4, 0.7, 3, 1, "tens", 0, 0),
    ("5651", "clothing", 52, 0.8, 5, 9, "ninety", 1, 0),
    ("5311", "department store", 48, 0.9, 4, 6, "ninety", 1, 1),
    ("5732", "electronics", 110, 1.1, 3, 7, "ninety", 1, 1),
    ("5200", "hardware", 42, 0.9, 3, 3, "cents", 1, 1),
    ("5712", "furniture", 140, 1.0, 1, 3, "ninety", 1, 1),
    ("5944", "jewellery", 120, 1.1, 1, 2, "round", 1, 1),
    ("5941", "sports goods", 50, 0.9, 2, 4, "ninety", 1, 0),
    ("5942", "books", 21, 0.7, 2, 4, "ninety", 1, 0),
    ("5977", "cosmetics", 28, 0.8, 2, 4, "ninety", 1, 0),
    ("7230", "hairdresser", 36, 0.6, 2, 0, "round", 0, 0),
    ("8011", "doctor", 60, 0.9, 1, 0, "cents", 0, 1),
    ("7011", "hotel", 130, 0.8, 2, 4, "round", 0, 1),
    ("7832", "cinema", 19, 0.6, 1, 2, "tens", 0, 0),
    ("5399", "marketplace", 32, 1.0, 0, 14, "ninety", 1, 0),
    ("5816", "games", 10, 1.0, 0, 7, "ninety", 0, 0),
    ("5817", "applications", 7, 1.0, 0, 6, "ninety", 0, 0),
    ("5815", "media", 11, 0.8, 0, 5, "ninety", 0, 0),
    ("5947", "gift cards", 35, 0.8, 1, 3, "round", 0, 0),
    ("8398", "charity", 17, 1.1, 0, 3, "round", 0, 1),
    ("4511", "airline", 150, 0.9, 0, 4, "cents", 0, 1),
    ("4722", "travel agency", 150, 1.0, 0, 3, "cents", 0, 1),
    ("4899", "streaming", 11, 0.5, 0, 3, "ninety", 0, 0),
    ("4814", "telephone", 22, 0.6, 0, 3, "ninety", 0, 1),
    ("4900", "utilities", 60, 0.7, 0, 2, "cents", 0, 1),
    ("6300", "insurance", 40, 0.7, 0, 2, "cents", 0, 1),
    ("4829", "money transfer", 80, 1.1, 0, 3, "round", 0, 0),
    ("7995", "betting", 22, 1.1, 0, 3, "round", 0, 0),
    ("6011", "cash machine", 70, 0.7, 0, 0, "notes", 0, 0),
)
STYLES = ("cents", "tens", "ninety", "round", "notes")

CODES = tuple(r[0] for r in _ROWS)
NAMES = tuple(r[1] for r in _ROWS)
EUROS = np.array([r[2] for r in _ROWS], np.float64)
SPREAD = np.array([r[3] for r in _ROWS], np.float64)
STREET_WEIGHT = np.array([r[4] for r in _ROWS], np.float64)
ONLINE_WEIGHT = np.array([r[5] for r in _ROWS], np.float64)
STYLE = np.array([STYLES.index(r[6]) for r in _ROWS], np.int64)
SHIPS = np.array([r[7] for r in _ROWS], np.bool_)
BY_TELEPHONE = np.array([r[8] for r in _ROWS], np.bool_)

CASH = NAMES.index("cash machine")
SUBSCRIBED = tuple(NAMES.index(n) for n in ("streaming", "telephone", "utilities", "insurance", "media"))
RESOLD = tuple(
    NAMES.index(n)
    for n in (
        "electronics",
        "clothing",
        "marketplace",
        "gift cards",
        "cosmetics",
        "sports goods",
        "jewellery",
        "airline",
    )
)
"""What stolen cards buy because it sells on; customers buy the same."""
SMALL = tuple(NAMES.index(n) for n in ("games", "applications", "media", "charity", "streaming", "books"))
"""Where a payment of one or two euros surprises nobody."""
