"""Chance, all of it from the seed: generators by (seed, purpose, day), and hashes where no order may matter.

A generator is for what is drawn once; a hash (`unit`, `mixed`) is for what must come out the same whenever somebody
asks, such as where customer 17 travels on the third trip, or which screen device 4,711 has.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def key_of(seed: int, purpose: str) -> int:
    """A 64-bit key; without the seed nobody can make it."""
    return int.from_bytes(hashlib.blake2b(f"{seed}|{purpose}".encode(), digest_size=8).digest(), "little")


def generator(seed: int, purpose: str, day: int = 0) -> np.random.Generator:
    """The generator of one purpose on one day of one world."""
    return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence([key_of(seed, purpose), day])))


@njit(cache=True)
def _mixed(index: Words, key: np.uint64, out: Words) -> None:
    # Two rounds of SplitMix64's finaliser (Steele, Lea, Flood 2014), the key added before each: a bijection of 64 bits,
    # so two indices never share an id.
    for i in range(len(index)):
        x = index[i]
        for _ in range(2):
            x += key
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x ^= x >> np.uint64(31)
        out[i] = x


def mixed(index: npt.NDArray[Any], key: int) -> Words:
    """64 bits that belong to each index; different indices give different bits."""
    words = np.ascontiguousarray(index).astype(np.uint64)
    out = np.empty(len(words), np.uint64)
    _mixed(words, np.uint64(key), out)
    return out


def unit(index: npt.NDArray[Any], key: int) -> Doubles:
    """A number in [0, 1) that belongs to each index."""
    return (mixed(index, key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def drawn(cumulative: npt.NDArray[Any], u: Doubles) -> Ints:
    """The index that each u in [0, 1) falls on, where `cumulative` ends with the total weight."""
    found = np.searchsorted(cumulative, u * cumulative[-1], side="right")
    index: Ints = np.minimum(found, len(cumulative) - 1).astype(np.int64)
    return index


def zipf(n: int, exponent: float = 1.0) -> Doubles:
    """Weights 1 / rank^exponent: how custom spreads over shops of one street (Zipf)."""
    return np.arange(1, n + 1, dtype=np.float64) ** -exponent
