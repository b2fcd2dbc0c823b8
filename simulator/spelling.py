"""Numbers -> texts, whole columns at a time: ids, card numbers, addresses of the network, joined pieces.

An id is a prefix of its kind and the sixteen hex digits of a keyed hash; its length, its digits and its order say
nothing about what it names (tests/simulator/test_ids.py).
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

from lakehouse.texts import Bytes8, Texts
from simulator.randomness import Ints, Words, mixed, unit

ID_PREFIXES = {
    "transaction": "t-",
    "customer": "c-",
    "merchant": "m-",
    "terminal": "p-",
    "device": "d-",
    "label": "l-",
}

TEST_BINS = ("400000", "401288", "411111", "424242", "510510", "520082", "555555", "222300")
"""Ranges that card processors publish for tests (their Visa and Mastercard test numbers); nobody holds such a card."""

V4_BITS = 28
"""240.0.0.0/4: reserved by RFC 1112, routed nowhere, so no address here is anybody's."""
V4_BASE = 240 << 24


@njit(cache=True)
def _hexed(values: Words, prefix: Bytes8, out: Bytes8) -> None:
    width = len(prefix)
    for i in range(len(values)):
        for k in range(width):
            out[i, k] = prefix[k]
        x = values[i]
        for k in range(16):
            digit = np.uint8((x >> np.uint64(60 - 4 * k)) & np.uint64(15))
            out[i, width + k] = digit + np.uint8(48) if digit < 10 else digit + np.uint8(87)


def hexed(values: Words, prefix: str) -> Texts:
    """`prefix` and 16 hex digits for every value."""
    head = np.frombuffer(prefix.encode(), np.uint8)
    out = np.empty((len(values), len(head) + 16), np.uint8)
    _hexed(values, head, out)
    return Texts.fixed(out)


@njit(cache=True)
def _card_numbers(bins: Ints, which: Ints, middle: Ints, out: Bytes8) -> None:
    for i in range(len(middle)):
        head = bins[which[i]]
        rest = middle[i]
        for k in range(6):
            out[i, 5 - k] = np.uint8(48 + head % 10)
            head //= 10
        for k in range(9):
            out[i, 14 - k] = np.uint8(48 + rest % 10)
            rest //= 10
        total = np.int64(0)
        for k in range(15):
            digit = np.int64(out[i, 14 - k]) - 48
            if k % 2 == 0:
                digit = digit * 2 - 9 if digit > 4 else digit * 2
            total += digit
        out[i, 15] = np.uint8(48 + (10 - total % 10) % 10)


def card_numbers(index: Ints, key: int) -> Texts:
    """Sixteen digits for every card: a test range, nine digits of its own, the Luhn digit (ISO/IEC 7812-1)."""
    bins = np.array([int(b) for b in TEST_BINS], np.int64)
    which = (unit(index, key) * len(bins)).astype(np.int64)
    out = np.empty((len(index), 16), np.uint8)
    _card_numbers(bins, which, nine_digits(index, key), out)
    return Texts.fixed(out)


def nine_digits(index: Ints, key: int) -> Ints:
    """A scrambled number below 10**9 that no other index below 10**9 has."""
    # Two affine steps around a swap of the halves; the factors share no divisor with 10**9, so each step is one to one.
    x = (index * 387_420_489 + key % 999_999_937) % 10**9
    x = x % 10**5 * 10**4 + x // 10**5
    digits: Ints = (x * 618_970_019 + key // 10**9 % 10**9) % 10**9
    return digits


def network_numbers(index: Ints, key: int) -> Ints:
    """The 28 bits behind each network address index, one to one below 2**28."""
    mask = 2**V4_BITS - 1
    x: Ints = (index + (key & mask)) & mask
    for factor in (0x9E3779B, 0x5BD1E99):
        x = (x * factor) & mask
        x ^= x >> 13
    return x


@njit(cache=True)
def _networks(value: Ints, low: Words, is_v6: Bytes8, out: Bytes8, length: Ints) -> None:
    for i in range(len(value)):
        at = 0
        if is_v6[i]:
            # 2001:db8::/32 is documentation space (RFC 3849); the groups keep their leading zeros.
            for c in (50, 48, 48, 49, 58, 48, 100, 98, 56):
                out[i, at] = c
                at += 1
            for group in range(6):
                out[i, at] = 58
                at += 1
                if group < 2:
                    word = np.uint64(value[i]) >> np.uint64(16 - 16 * group)
                else:
                    word = low[i] >> np.uint64(16 * (group - 2))
                for k in range(4):
                    digit = np.uint8((word >> np.uint64(12 - 4 * k)) & np.uint64(15))
                    out[i, at] = digit + np.uint8(48) if digit < 10 else digit + np.uint8(87)
                    at += 1
        else:
            for k in range(4):
                part = (value[i] >> (24 - 8 * k)) & 255
                if part >= 100:
                    out[i, at] = np.uint8(48 + part // 100)
                    at += 1
                if part >= 10:
                    out[i, at] = np.uint8(48 + part // 10 % 10)
                    at += 1
                out[i, at] = np.uint8(48 + part % 10)
                at += 1
                if k < 3:
                    out[i, at] = 46
                    at += 1
        length[i] = at


def network_addresses(index: Ints, is_v6: Bytes8, key: int) -> Texts:
    """An IPv4 or IPv6 address for every index."""
    out = np.zeros((len(index), 39), np.uint8)
    length = np.empty(len(index), np.int64)
    _networks(network_numbers(index, key) + V4_BASE, mixed(index, key), is_v6, out, length)
    return Texts(out.reshape(-1), np.arange(len(index), dtype=np.int64) * 39, length)


@njit(cache=True)
def _joined(buffer: Bytes8, start: Ints, length: Ints, out: Bytes8, at: Ints) -> None:
    for i in range(start.shape[1]):
        to = at[i]
        for p in range(start.shape[0]):
            for k in range(length[p, i]):
                out[to] = buffer[start[p, i] + k]
                to += 1


def joined(parts: Sequence[Texts]) -> Texts:
    """The pieces of every row, one after the other."""
    whole = Texts.concat(parts)
    rows = len(parts[0])
    start, length = whole.start.reshape(len(parts), rows), whole.length.reshape(len(parts), rows)
    total = length.sum(axis=0)
    at = np.zeros(rows, np.int64)
    np.cumsum(total[:-1], out=at[1:])
    out = np.empty(int(total.sum()), np.uint8)
    _joined(whole.buffer, start, length, out, at)
    return Texts(out, at, total)


def prefixed_digits(prefix: str, value: Ints, width: int) -> Texts:
    """`prefix` and the decimal digits of every value, with leading zeros up to `width`."""
    head = np.frombuffer(prefix.encode(), np.uint8)
    assert len(value) == 0 or (value.min() >= 0 and value.max() < 10**width), f"a number of more than {width} digits"
    out = np.empty((len(value), len(head) + width), np.uint8)
    out[:, : len(head)] = head
    out[:, len(head) :] = value[:, None] // 10 ** np.arange(width - 1, -1, -1) % 10 + 48
    return Texts.fixed(out)


def numbered_cards(number: Ints) -> Texts:
    """A card of the first test range for every number below 10**9."""
    out = np.empty((len(number), 16), np.uint8)
    bins = np.array([int(TEST_BINS[0])], np.int64)
    _card_numbers(bins, np.zeros(len(number), np.int64), number, out)
    return Texts.fixed(out)
