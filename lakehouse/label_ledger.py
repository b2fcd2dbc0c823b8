"""What labels say of payments at a moment, by the rule of gold/labels.py, over Arrow tables: for whoever has no Spark.

1. A label counts from `label_available_at` on, or from its arrival where that was later. What arrives later changes
   nothing at an earlier moment.
2. A label that another one takes back counts until that one counts, and never again.
3. A source that is not trusted has no word; neither has a label that is less confident than asked for.
4. Where sources disagree, the strongest one with a word is right; of its own words the newest.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.label_settings import Labels

COLUMNS = (
    *("label_id", "transaction_id", "source", "is_fraud", "confidence", "reverses"),
    *("event_time", "label_available_at", "engine_clock", "offset"),
)
"""Of silver.labels: what the rule looks at."""

_FOUND = {"transaction_id": pa.string(), "is_fraud": pa.bool_(), "source": pa.string()}


@dataclass(frozen=True)
class Trust:
    """Whose labels count."""

    sources: tuple[str, ...]
    """The strongest first."""
    least_confidence: float

    @staticmethod
    def of(settings: Labels) -> "Trust":
        """As the settings say."""
        return Trust(settings.sources, settings.least_confidence)


def _millis(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.divide(column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()), 1000)


def standing(labels: pa.Table, as_of_ms: int) -> pa.Table:
    """Labels that count at a moment and are not taken back by then, with `known_ms`: from when on they count."""
    known = pc.max_element_wise(_millis(labels.column("label_available_at")), _millis(labels.column("engine_clock")))
    seen = labels.append_column("known_ms", known).filter(pc.less_equal(known, as_of_ms))
    taken_back = pc.is_in(seen.column("label_id"), value_set=seen.column("reverses").drop_null().combine_chunks())
    return seen.filter(pc.and_(pc.is_null(seen.column("reverses")), pc.invert(taken_back)))


def believed(labels: pa.Table, trust: Trust) -> pa.Table:
    """The labels of trusted sources that are confident enough."""
    trusted = pc.is_in(labels.column("source"), value_set=pa.array(trust.sources, pa.string()))
    return labels.filter(pc.and_(trusted, pc.greater_equal(labels.column("confidence"), trust.least_confidence)))


def findings(labels: pa.Table, as_of_ms: int, trust: Trust) -> pa.Table:
    """(transaction_id, is_fraud, source) of every payment with a word: what it was found to be at a moment."""
    if labels.num_rows == 0:
        return pa.table({name: pa.array([], kind) for name, kind in _FOUND.items()})
    words = believed(standing(labels, as_of_ms), trust)
    rank = pc.index_in(words.column("source"), value_set=pa.array(trust.sources, pa.string()))
    order = [("rank", "ascending"), ("known_ms", "descending"), ("offset", "descending")]
    words = words.append_column("rank", rank).sort_by(order)
    _, first = np.unique(words.column("transaction_id").to_numpy(zero_copy_only=False).astype(str), return_index=True)
    return words.take(pa.array(first)).select(list(_FOUND))
