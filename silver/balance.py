"""Received = accepted + quarantined + duplicates, counted again from the tables themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import delta, storage
from lakehouse.contracts import bronze, silver
from lakehouse.errors import BalanceBroken
from lakehouse.expired import first_held
from lakehouse.log import logger
from lakehouse.spans import Span, holes
from lakehouse.tables import Table

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Balance:
    """Distinct source positions of a span, by where they ended up."""

    span: Span
    received: int
    accepted: Mapping[str, int]
    quarantined: int
    duplicates: int

    def text(self) -> str:
        """One line for people."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.accepted.items() if count)
        return (
            f"offsets {self.span.start} to {self.span.end}: received {self.received} = "
            f"accepted {sum(self.accepted.values())} ({kinds}) + quarantined {self.quarantined} "
            f"+ duplicates {self.duplicates}"
        )


def _offsets(root: str, table: Table, span: Span) -> Ints:
    offsets: Ints = delta.rows(root, table, ["offset"], delta.within(span))["offset"].cast(pa.int64()).to_numpy()
    return offsets


def refuse_losses(root: str) -> None:
    """BalanceBroken when the tables do not hold as many rows as positions were balanced: one of them was set back.

    What bronze holds no more cannot be done again: of what lacks there is only a warning.
    """
    ends = storage.written_ends(root, silver.BALANCE)
    starts = delta.rows(root, silver.BALANCE, ["topic_id", "partition", "start_offset"]).to_pylist()
    for key, end in ends.items():
        topic_id, partition = key.rsplit("/", 1)
        of_this = [r["start_offset"] for r in starts if (r["topic_id"], r["partition"]) == (topic_id, int(partition))]
        span = Span(topic_id, int(partition), min(of_this, default=end), end)
        if _lacking(root, span):
            first = max(span.start, min(first_held(root, bronze.EVENTS, key), end))
            if lacking := _lacking(root, replace(span, end=first)):
                told = {"lacking": lacking, "from_offset": span.start, "to_offset": first}
                logger("silver").warning("rows lack of offsets that bronze holds no more", **told)
            if _lacking(root, replace(span, start=first)):
                reconciled(root, replace(span, start=first))


def cut_off(root: str, span: Span) -> list[dict[str, Any]]:
    """Rows of silver.balance, counted anew, for what a rerun of a span cuts off of ranges that end within it.

    A range is known by its last offset, so a rerun replaces those that end in its span. What of them lies before it
    would then be in no range, and whoever reads silver by its balance would take it for lost.
    """
    names = ["start_offset", "offset", "run"]
    ranges = delta.rows(root, silver.BALANCE, names, delta.of_partition(span.topic_id, span.partition)).to_pylist()
    inside = [span.start <= row["offset"] < span.end for row in ranges]
    replaced = [row for row, within in zip(ranges, inside, strict=True) if within]
    if not replaced:
        return []
    kept = [(row["start_offset"], row["offset"] + 1) for row, within in zip(ranges, inside, strict=True) if not within]
    oldest = min(replaced, key=lambda row: row["start_offset"])
    rest = holes(kept, oldest["start_offset"], span.start)
    return [{**_counted(root, replace(span, start=start, end=end)), "run": oldest["run"]} for start, end in rest]


def _counted(root: str, span: Span) -> dict[str, Any]:
    """A row of silver.balance but for its run."""
    here = delta.within(span)
    clocks = [
        pc.max(delta.rows(root, table, ["engine_clock"], here).column("engine_clock")).as_py()
        for table in silver.BY_KIND.values()
    ]
    return {
        "topic_id": span.topic_id,
        "partition": span.partition,
        "offset": span.end - 1,
        "start_offset": span.start,
        "received": span.end - span.start,
        "accepted": sum(delta.count(root, table, here) for table in silver.BY_KIND.values()),
        "quarantined": delta.count(root, silver.QUARANTINE, here),
        "duplicates": delta.count(root, silver.DUPLICATES, here),
        "engine_clock": max((clock for clock in clocks if clock is not None), default=None),
    }


def _lacking(root: str, span: Span) -> int:
    """How many more positions a span has than the tables hold rows of it."""
    tables = (*silver.BY_KIND.values(), silver.QUARANTINE, silver.DUPLICATES)
    return span.end - span.start - sum(delta.count(root, table, delta.within(span)) for table in tables)


def reconciled(root: str, span: Span) -> Balance:
    """The balance of a span; BalanceBroken when a position lies in no table, in two, or twice in one."""
    accepted = {kind: _offsets(root, table, span) for kind, table in silver.BY_KIND.items()}
    quarantined, duplicates = _offsets(root, silver.QUARANTINE, span), _offsets(root, silver.DUPLICATES, span)
    received = _offsets(root, bronze.EVENTS, span)
    everywhere = np.concatenate([*accepted.values(), quarantined, duplicates])
    distinct, times = np.unique(everywhere, return_counts=True)
    whole = np.arange(span.start, span.end)
    for name, wrong in (
        ("lie in no table", np.setdiff1d(whole, distinct)),
        ("lie in two places", distinct[times > 1]),
        ("are lacking in bronze", np.setdiff1d(whole, received)),
    ):
        if len(wrong):
            raise BalanceBroken(
                f"{len(wrong)} offsets from {wrong[0]} on {name}.",
                f"Do the range again: python -m silver.job --from-position {wrong[0]} --to-position {wrong[-1] + 1}",
            )
    counts = {kind: len(np.unique(offsets)) for kind, offsets in accepted.items()}
    return Balance(span, len(np.unique(received)), counts, len(np.unique(quarantined)), len(np.unique(duplicates)))
