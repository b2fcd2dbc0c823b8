"""A payment's own statistics and the hashes of whom it names: one compiled pass over the columns of a batch.

What is missing is NaN, never zero. Names become constants of the compiled code: `AT` are the columns it reads, `OWN`
the statistics it writes, `CODE` the words it knows.
"""

import math
from collections import namedtuple
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from expectations.reference import short_code, short_codes
from features.arithmetic import unit_vector
from features.records import FOREIGN, REMOTE, SMALL
from features.statistics import PAYMENT
from features.windows import DAY_MS, HOUR_MS
from lakehouse.codec import Batch, Grid, lines_of
from lakehouse.texts import Bytes8, Flags, Ints, Texts, hash_of

Doubles = npt.NDArray[np.float64]

ROUND_MINOR = 1000
"""Ten units of a currency with two decimals: what people choose, prices end otherwise."""
SMALL_BASE_MINOR = 500
"""Five units of base currency: the size of a test payment, and of parking and coffee."""
NIGHT_HOURS = 6
"""Hours 0 to 5, UTC."""
HOME_OFFSET_MIN = 60
"""Central Europe in winter: the reference from which a device's time zone is measured."""


NEEDED = (
    "event_time",
    "amount_minor",
    "channel",
    "merchant_country",
    "issuer_country",
    "ip_country",
    "billing_country",
    "shipping_country",
    "cvv_result",
    "avs_result",
    "three_ds_result",
    "entry_mode",
    "is_recurring",
    "is_new_payee",
    "timezone_offset_min",
    "ip_is_proxy",
    "device_is_emulator",
    "device_is_rooted",
    "pin_attempts",
    "account_opened_on",
    "card_issued_on",
    "seconds_late",
    "latitude",
    "longitude",
)
MISSING, LONG = -1, -2
"""No text, and a text of more than seven bytes: it is known, and none of WORDS."""
WORDS = ("ecom", "moto", "wallet", "atm", "manual", "swipe", "stored", "M", "Y", "A")


def _constants(fields: tuple[str, ...], values: Iterable[int]) -> Any:
    """Numbers by name, as compiled code takes them for constants."""
    return namedtuple("Constants", fields)(*values)  # type: ignore[arg-type]


AT = _constants(NEEDED, range(len(NEEDED)))
OWN = _constants(PAYMENT, range(len(PAYMENT)))
CODE = _constants(WORDS, short_codes(Texts.of(WORDS)).tolist())


class Cells(NamedTuple):
    """A grid as compiled code takes it; `line` are the lines of the columns it reads."""

    line: Ints
    double: Flags
    buffer: Bytes8
    fixed: Ints
    bits: Doubles
    length: Ints
    valid: Flags


@cache
def _lines(names: tuple[str, ...], wanted: tuple[str, ...]) -> Ints:
    lines = lines_of(names)
    return np.array([lines[name] for name in wanted], np.int64)


def cells(grid: Grid, wanted: tuple[str, ...]) -> Cells:
    """The columns `wanted` of a grid; KeyError where one lacks."""
    line = _lines(grid.names, wanted)
    return Cells(line, grid.double, grid.buffer, grid.fixed, grid.fixed.view(np.float64), grid.length, grid.valid)


@njit(cache=True)
def _code(grid, column, i):
    """The short code of a text, MISSING or LONG."""
    line = grid.line[column]
    if not grid.valid[line, i]:
        return MISSING
    code = short_code(grid.buffer, grid.fixed[line, i], grid.length[line, i])
    return code if code >= 0 else LONG


@njit(cache=True)
def _number(grid, column, i):
    """A number, NaN where there is none."""
    line = grid.line[column]
    if not grid.valid[line, i]:
        return np.nan
    return grid.bits[line, i] if grid.double[line] else np.float64(grid.fixed[line, i])


@njit(cache=True)
def _differ(one, other):
    """1 where two codes differ, 0 where they do not, unknown where one is."""
    return np.nan if one == MISSING or other == MISSING else np.float64(one != other)


@njit(cache=True)
def _is(code, word):
    return np.nan if code == MISSING else np.float64(code == word)


@njit(cache=True)
def _is_not(code, word):
    return np.nan if code == MISSING else np.float64(code != word)


@njit(cache=True)
def _own(grid, base, category_risk, country_risk, device, addresses_differ, own, flags, place):
    """The payments' own statistics and flags, row by row."""
    for i in range(len(base)):
        row = own[i]
        event_ms = grid.fixed[grid.line[AT.event_time], i]
        amount = grid.fixed[grid.line[AT.amount_minor], i]
        day = event_ms // DAY_MS
        hour, weekday = (event_ms // HOUR_MS) % 24, (day + 3) % 7  # 1970-01-01 was a Thursday
        channel, entry = _code(grid, AT.channel, i), _code(grid, AT.entry_mode, i)
        merchant, issuer = _code(grid, AT.merchant_country, i), _code(grid, AT.issuer_country, i)
        ip, billing = _code(grid, AT.ip_country, i), _code(grid, AT.billing_country, i)
        three_ds = _code(grid, AT.three_ds_result, i)
        remote = channel in (CODE.ecom, CODE.moto)
        small = base[i] <= SMALL_BASE_MINOR
        row[OWN.amount_minor] = base[i]
        row[OWN.amount_log] = math.log1p(base[i])
        row[OWN.amount_is_round] = amount % ROUND_MINOR == 0 and amount > 0
        row[OWN.amount_is_small] = small
        row[OWN.hour_utc] = hour
        row[OWN.weekday] = weekday
        row[OWN.is_night] = hour < NIGHT_HOURS
        row[OWN.is_weekend] = weekday >= 5
        row[OWN.is_remote] = remote
        row[OWN.is_wallet] = channel == CODE.wallet
        row[OWN.is_atm] = channel == CODE.atm
        row[OWN.is_manual_entry] = _is(entry, CODE.manual)
        row[OWN.is_swipe] = _is(entry, CODE.swipe)
        row[OWN.is_stored] = _is(entry, CODE.stored)
        row[OWN.is_recurring] = _number(grid, AT.is_recurring, i)
        row[OWN.is_new_payee] = _number(grid, AT.is_new_payee, i)
        row[OWN.category_risk] = category_risk[i]
        row[OWN.country_risk] = country_risk[i]
        row[OWN.merchant_is_foreign] = _differ(merchant, issuer)
        row[OWN.ip_is_foreign] = _differ(ip, issuer)
        row[OWN.ip_differs_from_merchant] = _differ(ip, merchant)
        row[OWN.shipping_country_differs] = _differ(_code(grid, AT.shipping_country, i), billing)
        row[OWN.billing_country_differs] = _differ(billing, issuer)
        row[OWN.addresses_differ] = addresses_differ[i]
        row[OWN.timezone_gap_h] = abs(_number(grid, AT.timezone_offset_min, i) - HOME_OFFSET_MIN) / 60
        row[OWN.ip_is_proxy] = _number(grid, AT.ip_is_proxy, i)
        row[OWN.device_is_emulator] = _number(grid, AT.device_is_emulator, i)
        row[OWN.device_is_rooted] = _number(grid, AT.device_is_rooted, i)
        row[OWN.device_is_known] = device[i] != 0
        row[OWN.cvv_failed] = _is_not(_code(grid, AT.cvv_result, i), CODE.M)
        row[OWN.avs_failed] = _is_not(_code(grid, AT.avs_result, i), CODE.Y)
        row[OWN.three_ds_failed] = np.nan if three_ds == MISSING else np.float64(three_ds not in (CODE.Y, CODE.A))
        row[OWN.three_ds_absent] = np.float64(three_ds == MISSING) if remote else np.nan
        row[OWN.pin_attempts] = _number(grid, AT.pin_attempts, i)
        row[OWN.account_age_d] = day - _number(grid, AT.account_opened_on, i)
        row[OWN.card_age_d] = day - _number(grid, AT.card_issued_on, i)
        row[OWN.seconds_late] = _number(grid, AT.seconds_late, i)
        foreign = merchant != MISSING and issuer != MISSING and merchant != issuer
        place[i, 0], place[i, 1], place[i, 2] = unit_vector(
            _number(grid, AT.latitude, i), _number(grid, AT.longitude, i)
        )
        flags[i] = (REMOTE if remote else 0) | (SMALL if small else 0) | (FOREIGN if foreign else 0)


@njit(cache=True)
def _named(grid, out):
    for k in range(len(grid.line)):
        line = grid.line[k]
        for i in range(len(out)):
            out[i, k] = 0
            if grid.valid[line, i]:
                key = hash_of(grid.buffer, grid.fixed[line, i], grid.length[line, i], 0)
                out[i, k] = key if key else 1


def named(batch: Batch, columns: tuple[str, ...]) -> Ints:
    """(rows, columns): public 64-bit hashes of texts, zero where there is none, or no such column."""
    grid = batch.grid()
    at = [place for place, name in enumerate(columns) if name in grid.line]
    found = np.empty((batch.rows, len(at)), np.int64)
    _named(cells(grid, tuple(columns[place] for place in at)), found)
    if len(at) == len(columns):
        return found
    out = np.zeros((batch.rows, len(columns)), np.int64)
    out[:, at] = found
    return out


class Own(NamedTuple):
    """What payments say of themselves, one row a payment."""

    statistics: Doubles
    """(n, len(PAYMENT))"""
    flags: npt.NDArray[np.uint8]
    place: Doubles
    """(n, 3) unit vectors, NaN where latitude or longitude is missing."""

    @staticmethod
    def of(
        batch: Batch,
        base_minor: Ints,
        category_risk: Doubles,
        country_risk: Doubles,
        device: Ints,
        addresses_differ: Doubles,
    ) -> "Own":
        """Of decoded or tokenised payments; the other arguments have a row a payment too."""
        n = batch.rows
        own = Own(np.empty((n, len(PAYMENT))), np.empty(n, np.uint8), np.empty((n, 3)))
        grid = cells(batch.grid(), NEEDED)
        _own(grid, base_minor, category_risk, country_risk, device, addresses_differ, *own)
        return own
