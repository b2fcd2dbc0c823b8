"""The reference tables in force: rates to the base currency, risk of merchant categories and of countries.

They are activated by a signed control event and travel as its payload, so that every amount in base currency and every
risk can be traced to a version.

    {"base_currency": "EUR",
     "rates_micro": {"EUR": 1000000, "JPY": 620000, ...},   base minor units per 1,000,000 minor units of the currency
     "category_risk": {"5411": 0.02, ...},                  merchant category code -> 0..1
     "country_risk": {"FR": 0.05, ...}}                     ISO 3166 alpha-2 -> 0..1
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from numba import njit

from lakehouse.errors import ControlRefused
from lakehouse.iso import COUNTRIES, CURRENCIES
from lakehouse.texts import Bytes8, Ints, Texts

MICRO = 1_000_000
MAX_RATE_MICRO = 90_000_000
"""The largest admitted amount (10**11 minor units) times this rate still fits 63 bits."""

Doubles = npt.NDArray[np.float64]


@njit(cache=True)
def short_code(buffer: Bytes8, start: int, length: int) -> int:
    """The number of one text, for compiled code: what `short_codes` gives."""
    if length > 7:
        return -1
    code = np.int64(0)
    for j in range(length):
        code = code << 8 | np.int64(buffer[start + j])
    return int(code)


@njit(cache=True)
def _short_codes(buffer: Bytes8, start: Ints, length: Ints, out: Ints) -> None:
    for i in range(len(start)):
        out[i] = short_code(buffer, start[i], length[i])


def short_codes(texts: Texts) -> Ints:
    """Texts of at most seven bytes as numbers, equal exactly where the texts are; -1 for longer ones."""
    out = np.empty(len(texts), np.int64)
    _short_codes(texts.buffer, texts.start, texts.length, out)
    return out


@njit(cache=True)
def converted(amount_minor: Ints, rate_micro: Ints) -> Ints:
    """Amounts times rates over 1,000,000 in whole minor units, halves to even, exact."""
    out = np.empty(len(amount_minor), np.int64)
    for i in range(len(amount_minor)):
        product = amount_minor[i] * rate_micro[i]
        whole = product // MICRO
        rest = product - whole * MICRO
        if rest * 2 > MICRO or (rest * 2 == MICRO and whole % 2 == 1):
            whole += 1
        out[i] = whole
    return out


class _Lookup:
    """Values by short text."""

    def __init__(self, values: Mapping[str, float]) -> None:
        codes = short_codes(Texts.of(list(values)))
        order = np.argsort(codes)
        self._codes = codes[order]
        self._values = np.array(list(values.values()), np.float64)[order]

    def __call__(self, codes: Ints) -> Doubles:
        """The value of each code, NaN where there is none."""
        if len(self._codes) == 0:
            return np.full(len(codes), np.nan)
        at = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[at] == codes, self._values[at], np.nan)


@dataclass(frozen=True)
class Reference:
    """One version of the reference tables, ready for lookups of whole columns."""

    version: int
    base_currency: str
    rate_micro: _Lookup
    category_risk: _Lookup
    country_risk: _Lookup

    @staticmethod
    def of(version: int, payload: str) -> "Reference":
        """The tables of a control event's payload; ControlRefused names what is wrong with it."""
        content = _checked(payload)
        return Reference(
            version,
            content["base_currency"],
            _Lookup(content["rates_micro"]),
            _Lookup(content["category_risk"]),
            _Lookup(content["country_risk"]),
        )


def _checked(payload: str) -> dict[str, Any]:
    try:
        content = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise ControlRefused("The reference payload is not JSON.") from None
    wanted = {"base_currency", "rates_micro", "category_risk", "country_risk"}
    if not isinstance(content, dict) or set(content) != wanted:
        raise ControlRefused(f"The reference payload must have exactly the keys {', '.join(sorted(wanted))}.")
    not_tables = [name for name in sorted(wanted - {"base_currency"}) if not isinstance(content[name], dict)]
    if not_tables or not isinstance(content["base_currency"], str):
        raise ControlRefused(f"{', '.join(not_tables) or 'base_currency'} has the wrong type.")
    rates = content["rates_micro"]
    bad = [c for c, r in rates.items() if c not in CURRENCIES or type(r) is not int or not 0 < r <= MAX_RATE_MICRO]
    if bad:
        raise ControlRefused(
            f"rates_micro must be whole numbers from 1 to {MAX_RATE_MICRO} by ISO 4217 code: {bad[:5]}."
        )
    if rates.get(content["base_currency"]) != MICRO:
        raise ControlRefused(f"The base currency must have the rate {MICRO}.")
    for name, known in (("category_risk", None), ("country_risk", COUNTRIES)):
        bad = [
            key
            for key, risk in content[name].items()
            if (known is not None and key not in known)
            or (known is None and not (len(key) == 4 and key.isascii() and key.isdecimal()))
            or type(risk) not in (int, float)
            or not 0 <= risk <= 1
        ]
        if bad:
            raise ControlRefused(f"{name} must be numbers from 0 to 1 by known code: {bad[:5]}.")
    return content
