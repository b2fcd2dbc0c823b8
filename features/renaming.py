"""Older tokens under the names that a later key version has for them, so that a state can be built from all of history.

A state knows people and things by the first 64 bits of their tokens, so that is what is renamed. silver.token_map lies
beside a run's other files as sorted pairs, step by step: a row of version 1 goes through the map to 2, then to 3.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from expectations.switching import Switch, refuse_gaps, switches
from features import snapshot
from features.inputs import token_keys
from lakehouse import delta
from lakehouse.contracts import silver
from lakehouse.crypto import TOKEN_KINDS, up_to
from lakehouse.errors import RangeMissing
from lakehouse.keys import source
from lakehouse.settings import Settings
from lakehouse.spans import Span
from lakehouse.texts import Ints, Texts

FILE = f"renaming{snapshot.SUFFIX}"
LACKING = "silver.token_map lacks a token"
Pairs = Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Renaming:
    """The steps to one key version, and the file of their pairs; may travel to workers."""

    steps: tuple[Switch, ...] = ()
    path: Path | None = None
    blank_customers: tuple[int, ...] = ()
    """Keys of a customer id of white space, one a key version: they are nobody's."""

    def opened(self) -> "Names":
        """The pairs, read here and now."""
        pairs = {} if self.path is None else snapshot.read(self.path).arrays
        return Names(self.steps, pairs, np.array(self.blank_customers, np.int64))


class Names:
    """Renames the keys of rows by their place in the log."""

    def __init__(self, steps: tuple[Switch, ...], pairs: Pairs, blank_customers: Ints) -> None:
        self._steps, self._pairs, self._blank_customers = steps, pairs, blank_customers

    def renamed(self, kind: str, keys: Ints, offset: Ints) -> Ints:
        """Keys of tokens of a kind, zero for nobody; RangeMissing where a token has no new name."""
        if kind == "customer":
            keys = np.where(np.isin(keys, self._blank_customers), 0, keys)
        for step in self._steps:
            rows = np.flatnonzero((offset <= step.offset) & (keys != 0))
            if len(rows):
                keys = keys.copy()
                keys[rows] = self._step(step, kind, keys[rows], offset[rows])
        return keys

    def _step(self, step: Switch, kind: str, keys: Ints, offset: Ints) -> Ints:
        old, new = (self._pairs.get(f"{step.version}/{kind}/{side}", np.zeros(0, np.int64)) for side in ("old", "new"))
        at = np.minimum(np.searchsorted(old, keys), max(0, len(old) - 1))
        lacking = np.flatnonzero(old[at] != keys) if len(old) else np.arange(len(keys))
        if len(lacking):
            raise RangeMissing(_lacking(kind, int(offset[lacking[0]]), step.version))
        return new[at]


def _lacking(kind: str, offset: int, version: int) -> str:
    return (
        f"{LACKING} of kind {kind} at offset {offset} to version {version}. "
        f"python -m silver.tokens prepare --to {version} --again"
    )


@contextmanager
def named() -> Iterator[None]:
    """What a worker says of a token without a new name becomes one sentence."""
    try:
        yield
    except RangeMissing:
        raise
    except Exception as error:  # Spark wraps what a worker raises in an error of its own, with all of its text
        line = next((line for line in str(error).splitlines() if LACKING in line), None)
        if line is None:
            raise
        raise RangeMissing(line[line.index(LACKING) :].strip()) from None


def renaming(settings: Settings, root: str, span: Span, folder: Path) -> Renaming:
    """From every version in a span to the one that is in force at its end; the pairs go into the folder.

    RangeMissing where a map does not reach its switch.
    """
    steps = tuple(switches(root, span.topic_id, span.partition, span.end))
    needed = tuple(step for step in steps if step.offset >= span.start)
    keyring = source(settings).keyring()
    every = up_to(keyring, steps[-1].version if steps else keyring.token_version)
    blank = tuple(tokens.blank_customer for tokens in every)
    if not needed:
        return Renaming(blank_customers=blank)
    refuse_gaps(root, span.topic_id, span.partition, list(needed))
    arrays: dict[str, npt.NDArray[np.int64]] = {}
    for step in needed:
        for kind in TOKEN_KINDS:
            arrays[f"{step.version}/{kind}/old"], arrays[f"{step.version}/{kind}/new"] = _pairs(
                root, kind, step.version
            )
    path = folder / FILE
    snapshot.write(path, {}, arrays)
    return Renaming(needed, path, blank)


def _pairs(root: str, kind: str, version: int) -> tuple[Ints, Ints]:
    here = (pc.field("to_version") == version) & (pc.field("kind") == kind)
    rows = delta.rows(root, silver.TOKEN_MAP, ["old_token", "new_token"], here)
    if not rows.num_rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    everybody = np.ones(rows.num_rows, np.bool_)
    columns = (rows.column(name).combine_chunks() for name in ("old_token", "new_token"))
    old, new = (token_keys(Texts.from_arrow(column), everybody) for column in columns)
    order = np.argsort(old, kind="stable")
    return old[order], new[order]
