"""Which row rules a decoded batch breaks: the form of the rules that engine and silver evaluate as they decode."""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from lakehouse.codec import Batch, lines_of
from lakehouse.tables import Between, Digits, Holds, Length, OneOf, Required, Rule
from lakehouse.texts import Bytes8, Ints, Texts

Doubles = npt.NDArray[np.float64]


REQUIRED, BETWEEN, ONE_OF, DIGITS, LENGTH, HOLDS = range(6)
_INT64 = np.iinfo(np.int64)


class Program(NamedTuple):
    """Rules as arrays, one entry a rule."""

    what: Ints
    line: Ints
    """Of the column in the grid."""
    low: Doubles
    high: Doubles
    whole_low: Ints
    """The same bounds for columns of whole numbers."""
    whole_high: Ints
    first_word: Ints
    """Of ONE_OF: words first_word[r] to first_word[r + 1]."""
    words: Bytes8
    word: Ints
    """Begin of every word, and the end of the last."""


@njit(cache=True)
def _is_one_of(buffer, start, length, words, word, first, last):
    """Whether a text is one of the words, which lie by length and then by bytes."""
    while first < last:
        middle = (first + last) // 2
        order = word[middle + 1] - word[middle] - length
        if order == 0:
            for j in range(length):
                order = np.int64(words[word[middle] + j]) - np.int64(buffer[start + j])
                if order != 0:
                    break
        if order == 0:
            return True
        if order < 0:
            first = middle + 1
        else:
            last = middle
    return False


@njit(cache=True)
def _text_holds(program, rule, buffer, start, length):
    if program.what[rule] == ONE_OF:
        first, last = program.first_word[rule], program.first_word[rule + 1]
        return _is_one_of(buffer, start, length, program.words, program.word, first, last)
    if program.what[rule] == DIGITS:
        if length != program.whole_low[rule]:
            return False
        good = True
        for j in range(start, start + length):
            good = good and 48 <= buffer[j] <= 57
        return good
    # UTF-8: every byte that is not a continuation begins a character.
    characters = 0
    for j in range(start, start + length):
        characters += (buffer[j] & 0xC0) != 0x80
    return program.whole_low[rule] <= characters <= program.whole_high[rule]


@njit(cache=True)
def _failing(program, double, buffer, fixed, bits, length, valid, out):
    """Mark the rules that rows break; a missing value breaks REQUIRED only. Whether any did."""
    found = False
    for rule in range(len(program.what)):
        what, line = program.what[rule], program.line[rule]
        for i in range(fixed.shape[1]):
            if not valid[line, i]:
                good = what != REQUIRED
            elif what == REQUIRED:
                good = True
            elif what == HOLDS:
                good = fixed[line, i] != 0
            elif what == BETWEEN and double[line]:
                # A number that is none is a missing one.
                good = not (bits[line, i] < program.low[rule] or bits[line, i] > program.high[rule])
            elif what == BETWEEN:
                good = program.whole_low[rule] <= fixed[line, i] <= program.whole_high[rule]
            else:
                good = _text_holds(program, rule, buffer, fixed[line, i], length[line, i])
            out[rule, i] = not good
            found = found or not good
    return found


@njit(cache=True)
def is_well_formed_card(buffer, start, length):
    """Whether a card number has 12-19 digits and a valid Luhn digit (all zeros are no card)."""
    # ISO/IEC 7812-1, annex B: double every second digit from the right; the sum is a multiple of ten.
    if length < 12 or length > 19:
        return False
    total = 0
    for k in range(length):
        c = buffer[start + length - 1 - k]
        if c < 48 or c > 57:
            return False
        digit = int(c) - 48
        if k % 2 == 1:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return total % 10 == 0 and total > 0


@cache
def _program(rules: tuple[Rule, ...], names: tuple[str, ...]) -> Program:
    kinds: dict[type, int] = {
        Required: REQUIRED,
        Between: BETWEEN,
        OneOf: ONE_OF,
        Digits: DIGITS,
        Length: LENGTH,
        Holds: HOLDS,
    }
    lines = lines_of(names)
    low, high = [-math.inf] * len(rules), [math.inf] * len(rules)
    words: list[str] = []
    first_word = [0]
    for at, rule in enumerate(rules):
        match rule:
            case Between(low=least, high=most) | Length(low=least, high=most):
                low[at], high[at] = least, most
            case Digits(length=length):
                low[at] = high[at] = length
            case OneOf(values=values):
                words += sorted(values, key=lambda word: (len(word.encode()), word.encode()))
        first_word.append(len(words))
    packed, word = Texts.of(words).packed()
    return Program(
        np.array([kinds[type(rule)] for rule in rules], np.int64),
        np.array([lines[rule.column] for rule in rules], np.int64),
        np.array(low, np.float64),
        np.array(high, np.float64),
        np.array([_INT64.min if x == -math.inf else max(math.ceil(x), _INT64.min) for x in low], np.int64),
        np.array([_INT64.max if x == math.inf else min(math.floor(x), _INT64.max) for x in high], np.int64),
        np.array(first_word, np.int64),
        packed,
        word,
    )


def broken(rules: Sequence[Rule], batch: Batch) -> list[str]:
    """Per row the names of the rules it breaks, in the contract's order, joined by commas; empty for a good row."""
    names = [""] * batch.rows
    if not rules:
        return names
    grid = batch.grid()
    failing = np.empty((len(rules), batch.rows), np.bool_)
    program = _program(tuple(rules), grid.names)
    bits = grid.fixed.view(np.float64)
    if not _failing(program, grid.double, grid.buffer, grid.fixed, bits, grid.length, grid.valid, failing):
        return names
    for row in np.flatnonzero(failing.any(axis=0)).tolist():
        names[row] = ",".join(rule.name for rule, bad in zip(rules, failing[:, row].tolist(), strict=True) if bad)
    return names
