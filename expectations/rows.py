"""Which row rules a decoded batch breaks: the engine's form of the rules that silver evaluates as Spark predicates."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import njit

from lakehouse.codec import Batch
from lakehouse.tables import Between, Digits, Holds, Length, OneOf, Required, Rule
from lakehouse.texts import Bytes8, Flags, Ints, Texts


@njit(cache=True)
def _characters(buffer: Bytes8, start: Ints, length: Ints, out: Ints) -> None:
    # UTF-8: every byte that is not a continuation begins a character.
    for i in range(len(start)):
        n = 0
        for j in range(start[i], start[i] + length[i]):
            n += (buffer[j] & 0xC0) != 0x80
        out[i] = n


@njit(cache=True)
def _all_digits(buffer: Bytes8, start: Ints, length: Ints, wanted: int, out: Flags) -> None:
    for i in range(len(start)):
        good = length[i] == wanted
        for j in range(start[i], start[i] + length[i]):
            good = good and buffer[j] >= 48 and buffer[j] <= 57
        out[i] = good


@njit(cache=True)
def _one_of(buffer: Bytes8, start: Ints, length: Ints, words: Bytes8, first: Ints, out: Flags) -> None:
    for i in range(len(start)):
        found = False
        for w in range(len(first) - 1):
            if first[w + 1] - first[w] != length[i]:
                continue
            same = True
            for j in range(length[i]):
                if buffer[start[i] + j] != words[first[w] + j]:
                    same = False
                    break
            if same:
                found = True
                break
        out[i] = found


@njit(cache=True)
def _well_formed_card(buffer: Bytes8, start: Ints, length: Ints, out: Flags) -> None:
    # ISO/IEC 7812-1, annex B: double every second digit from the right; the sum is a multiple of ten.
    for i in range(len(start)):
        n = length[i]
        good = 12 <= n <= 19
        total = 0
        for k in range(n):
            c = buffer[start[i] + n - 1 - k]
            if c < 48 or c > 57:
                good = False
                break
            digit = int(c) - 48
            if k % 2 == 1:
                digit = digit * 2 - 9 if digit > 4 else digit * 2
            total += digit
        out[i] = good and total % 10 == 0 and total > 0


def well_formed_card(numbers: Texts) -> Flags:
    """Whether each card number has 12-19 digits and a valid Luhn digit (all zeros are no card)."""
    out = np.zeros(len(numbers), np.bool_)
    _well_formed_card(numbers.buffer, numbers.start, numbers.length, out)
    return out


def _holds(rule: Rule, batch: Batch) -> Flags:
    has = batch.has(rule.column)
    match rule:
        case Required():
            return has
        case Between(low=low, high=high):
            values = batch.numbers(rule.column)
            with np.errstate(invalid="ignore"):
                inside = (values >= low) & (values <= high)
            return inside | ~has | (np.isnan(values) if values.dtype.kind == "f" else np.zeros(batch.rows, np.bool_))
        case Holds():
            return batch.numbers(rule.column).astype(np.bool_) | ~has
    texts = batch.texts(rule.column)
    out = np.zeros(batch.rows, np.bool_)
    match rule:
        case OneOf(values=names):
            words, first = Texts.of(names).packed()
            _one_of(texts.buffer, texts.start, texts.length, words, first, out)
        case Digits(length=length):
            _all_digits(texts.buffer, texts.start, texts.length, length, out)
        case Length(low=low, high=high):
            characters = np.zeros(batch.rows, np.int64)
            _characters(texts.buffer, texts.start, texts.length, characters)
            out = (characters >= low) & (characters <= high)
    return out | ~has


def broken(rules: Sequence[Rule], batch: Batch) -> list[str]:
    """Per row the names of the rules it breaks, in the contract's order, joined by commas; empty for a good row."""
    if not rules:
        return [""] * batch.rows
    failing: npt.NDArray[np.bool_] = np.stack([~_holds(rule, batch) for rule in rules])
    names = [""] * batch.rows
    for row in np.flatnonzero(failing.any(axis=0)).tolist():
        names[row] = ",".join(rule.name for rule, bad in zip(rules, failing[:, row].tolist(), strict=True) if bad)
    return names


def warm() -> None:
    """Compile or load the kernels of this module."""
    texts = Texts.of(["1"])
    batch = Batch(1, {"x": texts}, {})
    broken((Length("l", "x", 1, 1), Digits("d", "x", 1), OneOf("o", "x", ("1",))), batch)
    well_formed_card(texts)
