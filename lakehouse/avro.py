"""Avro's binary form, walked by compiled code that checks every byte: the kernels of `lakehouse.codec`."""

import numpy as np
from numba import njit

from lakehouse.texts import Bytes8, Flags, Ints

BOOLEAN, INT, LONG, DOUBLE, BYTES, STRING, STRINGS = range(7)

OK, TRUNCATED, TRAILING_BYTES, BAD_BRANCH, BAD_BOOLEAN, BAD_NUMBER, BAD_LENGTH, BAD_TEXT = range(8)
FAULTS = (
    "",
    "ends_too_early",
    "trailing_bytes",
    "no_such_union_branch",
    "no_such_boolean",
    "number_out_of_range",
    "length_out_of_range",
    "text_not_utf8",
)


@njit(cache=True)
def _varint(buf: Bytes8, at: int, end: int) -> tuple[int, int]:
    """(value, next place); next place -1: it ends too early, -2: it does not fit 64 bits."""
    shift = 0
    raw = np.uint64(0)
    while True:
        if at >= end:
            return 0, -1
        b = buf[at]
        at += 1
        if shift == 63 and b > 1:
            return 0, -2
        raw |= np.uint64(b & 0x7F) << np.uint64(shift)
        if b < 0x80:
            break
        shift += 7
    return int(np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1))), at


@njit(cache=True)
def _is_utf8(buf: Bytes8, at: int, end: int) -> bool:
    while at < end:
        b = buf[at]
        if b < 0x80:
            at += 1
            continue
        if b < 0xC2 or b > 0xF4:
            return False
        extra = 1 if b < 0xE0 else (2 if b < 0xF0 else 3)
        if at + extra >= end:
            return False
        low, high = 0x80, 0xBF
        if b == 0xE0:
            low = 0xA0
        elif b == 0xED:
            high = 0x9F
        elif b == 0xF0:
            low = 0x90
        elif b == 0xF4:
            high = 0x8F
        if buf[at + 1] < low or buf[at + 1] > high:
            return False
        for k in range(2, extra + 1):
            if buf[at + k] & 0xC0 != 0x80:
                return False
        at += extra + 1
    return True


@njit(cache=True)
def decode(
    buf: Bytes8,
    start: Ints,
    end: Ints,
    kinds: Ints,
    nullable: Flags,
    marked: int,
    fixed: Ints,
    length: Ints,
    valid: Flags,
    mark: Ints,
    item_start: Ints,
    item_length: Ints,
    fault: Ints,
) -> int:
    """Walk the bodies buf[start[i] : end[i]] into the arrays, [field, row] each; how many list items there were.

    `fixed` holds numbers (a double's bits, a text's place, a list's first item), `length` bytes or items.
    """
    items = 0
    for i in range(len(start)):
        at, stop, bad = start[i], end[i], OK
        for f in range(len(kinds)):
            kind = kinds[f]
            if f == marked:
                mark[0, i] = at
            present = True
            if nullable[f]:
                branch, at = _varint(buf, at, stop)
                if at < 0:
                    bad = TRUNCATED if at == -1 else BAD_NUMBER
                    break
                if branch != 0 and branch != 1:
                    bad = BAD_BRANCH
                    break
                present = branch == 1
            valid[f, i] = present
            if not present:
                fixed[f, i] = 0
                length[f, i] = 0
            elif kind == BOOLEAN:
                if at >= stop:
                    bad = TRUNCATED
                    break
                if buf[at] > 1:
                    bad = BAD_BOOLEAN
                    break
                fixed[f, i] = buf[at]
                at += 1
            elif kind in (INT, LONG):
                value, at = _varint(buf, at, stop)
                if at < 0:
                    bad = TRUNCATED if at == -1 else BAD_NUMBER
                    break
                if kind == INT and (value > 2147483647 or value < -2147483648):
                    bad = BAD_NUMBER
                    break
                fixed[f, i] = value
            elif kind == DOUBLE:
                if at + 8 > stop:
                    bad = TRUNCATED
                    break
                raw = np.uint64(0)
                for k in range(8):
                    raw |= np.uint64(buf[at + k]) << np.uint64(8 * k)
                fixed[f, i] = np.int64(raw)
                at += 8
            elif kind == STRINGS:
                fixed[f, i] = items
                count = 0
                while True:
                    block, at = _varint(buf, at, stop)
                    if at < 0:
                        bad = TRUNCATED if at == -1 else BAD_NUMBER
                        break
                    if block == 0:
                        break
                    if block < 0:
                        size, at = _varint(buf, at, stop)
                        if at < 0:
                            bad = TRUNCATED if at == -1 else BAD_NUMBER
                            break
                        if size < 0:
                            bad = BAD_LENGTH
                            break
                        block = -block
                    if block < 0 or block > stop - at:
                        bad = BAD_LENGTH
                        break
                    for _ in range(block):
                        size, at = _varint(buf, at, stop)
                        if at < 0:
                            bad = TRUNCATED if at == -1 else BAD_NUMBER
                            break
                        if size < 0 or size > stop - at:
                            bad = BAD_LENGTH
                            break
                        if not _is_utf8(buf, at, at + size):
                            bad = BAD_TEXT
                            break
                        item_start[items] = at
                        item_length[items] = size
                        items += 1
                        count += 1
                        at += size
                    if bad:
                        break
                if bad:
                    break
                length[f, i] = count
            else:
                size, at = _varint(buf, at, stop)
                if at < 0:
                    bad = TRUNCATED if at == -1 else BAD_NUMBER
                    break
                if size < 0 or size > stop - at:
                    bad = BAD_LENGTH
                    break
                if kind == STRING and not _is_utf8(buf, at, at + size):
                    bad = BAD_TEXT
                    break
                fixed[f, i] = at
                length[f, i] = size
                at += size
            if f == marked:
                mark[1, i] = at
        if not bad and at != stop:
            bad = TRAILING_BYTES
        fault[i] = bad
    return items


@njit(cache=True)
def _put_varint(out: Bytes8, at: int, value: int) -> int:
    raw = np.uint64(value << 1) ^ np.uint64(value >> 63)
    while raw >= np.uint64(0x80):
        out[at] = np.uint8(raw & np.uint64(0x7F)) | np.uint8(0x80)
        raw >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(raw)
    return at + 1


@njit(cache=True)
def encode(
    kinds: Ints,
    nullable: Flags,
    fixed: Ints,
    length: Ints,
    valid: Flags,
    buf: Bytes8,
    item_start: Ints,
    item_length: Ints,
    prefix: Bytes8,
    out: Bytes8,
    offsets: Ints,
) -> None:
    """Write the rows of the same arrays, each behind `prefix`: row i is out[offsets[i] : offsets[i + 1]]."""
    at = 0
    for i in range(fixed.shape[1]):
        offsets[i] = at
        for k in range(len(prefix)):
            out[at] = prefix[k]
            at += 1
        for f in range(len(kinds)):
            kind = kinds[f]
            if nullable[f]:
                out[at] = 2 if valid[f, i] else 0
                at += 1
                if not valid[f, i]:
                    continue
            value = fixed[f, i]
            if kind == BOOLEAN:
                out[at] = 1 if value else 0
                at += 1
            elif kind in (INT, LONG):
                at = _put_varint(out, at, value)
            elif kind == DOUBLE:
                raw = np.uint64(value)
                for k in range(8):
                    out[at + k] = np.uint8((raw >> np.uint64(8 * k)) & np.uint64(0xFF))
                at += 8
            elif kind == STRINGS:
                if length[f, i] > 0:
                    at = _put_varint(out, at, length[f, i])
                    for item in range(value, value + length[f, i]):
                        at = _put_varint(out, at, item_length[item])
                        for k in range(item_start[item], item_start[item] + item_length[item]):
                            out[at] = buf[k]
                            at += 1
                out[at] = 0
                at += 1
            else:
                at = _put_varint(out, at, length[f, i])
                for k in range(value, value + length[f, i]):
                    out[at] = buf[k]
                    at += 1
    offsets[fixed.shape[1]] = at
