"""The state of admission just before a position, from what silver holds; read without Spark."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from expectations.admission import Admission, horizons_ms
from expectations.control import InForce
from expectations.decoded import IDENTITY_FIELDS, pairs
from lakehouse import delta
from lakehouse.contracts.silver import BY_KIND
from lakehouse.crypto import Digests
from lakehouse.keys import source
from lakehouse.settings import Settings, resolve
from lakehouse.signing import trust
from lakehouse.spans import Span
from lakehouse.texts import Ints
from lakehouse.topics import EVENT_KINDS

STRETCH = 1_000_000
"""Offsets that are first looked at for what is recent; each stretch before them has twice as many."""


def _before(root: str, kind: str, topic_id: str, partition: int, position: int, columns: list[str]) -> pa.Table:
    """Rows of a kind below the position, in log order; no rows where the table has not been made."""
    below = Span(topic_id, partition, 0, position)
    return delta.rows(root, BY_KIND[kind], columns, delta.within(below)).sort_by("offset")


def _back(root: str, kind: str, topic_id: str, partition: int, position: int, stretch: int) -> Iterator[pa.Table]:
    """The same of what makes records unique, stretch by stretch, the newest first; nothing of empty ones."""
    columns = ["offset", "content_digest", "engine_clock", *IDENTITY_FIELDS[kind]]
    end = position
    while end > 0:
        start = max(0, end - stretch)
        here = delta.within(Span(topic_id, partition, start, end))
        rows = delta.rows(root, BY_KIND[kind], columns, here)
        if rows.num_rows:
            yield rows.sort_by("offset")
        end, stretch = start, 2 * stretch


def _clock_ms(rows: pa.Table) -> Ints:
    """The engine's clock of rows in log order; it never goes back."""
    found: Ints = rows.column("engine_clock").cast(pa.int64()).to_numpy() // 1000
    return found


def _recent(newest: pa.Table, older: Iterator[pa.Table], since_ms: int) -> pa.Table:
    """Rows of a kind behind a moment of the clock, in log order; no stretch is read that lies before it."""
    parts = [newest]
    while _clock_ms(parts[-1])[0] > since_ms and (before := next(older, None)) is not None:
        parts.append(before)
    rows = pa.concat_tables(reversed(parts))
    return rows.take(pa.array(np.flatnonzero(_clock_ms(rows) > since_ms)))


def restored(
    settings: Settings, root: str, topic_id: str, partition: int, position: int, stretch: int = STRETCH
) -> Admission:
    """Admission as it stood when record `position` came: clock, ids of the horizon, what was in force.

    What is read does not grow with the tables, but for control and `staged` records: it ends at the horizon.
    """
    horizon = horizons_ms(settings)
    keyring = source(settings).keyring()
    in_force = InForce(first_token_version=keyring.token_version)
    admission = Admission(horizon, trust(resolve(settings.keys.folder)), in_force)
    digests = Digests(keyring)
    back = {
        number: _back(root, kind, topic_id, partition, position, stretch) for number, kind in enumerate(EVENT_KINDS)
    }
    newest = {number: rows for number, stretches in back.items() if (rows := next(stretches, None)) is not None}
    if not newest:
        return admission
    latest = max(int(_clock_ms(rows)[-1]) for rows in newest.values())
    for number, rows in newest.items():
        _remember(admission, _recent(rows, back[number], latest - int(horizon[number])), number, digests)
    admission.clock = latest
    folded = [
        _before(root, kind, topic_id, partition, position, columns).to_pylist()
        for kind, columns in (
            ("control", ["offset", "scope", "version", "previous_digest", "payload"]),
            ("staged", ["offset", "model_digest", "refused"]),
        )
    ]
    admission.in_force.fold(*folded)
    admission.in_force.forget(latest)
    return admission


def _remember(admission: Admission, rows: pa.Table, kind: int, digests: Digests) -> None:
    name = EVENT_KINDS[kind]
    keys = zip(*(rows.column(field).to_pylist() for field in IDENTITY_FIELDS[name]), strict=True)
    identity = [digests.identity(name, "\0".join(key).encode()) for key in keys]
    if not identity:
        return
    admission.remember(
        np.full(rows.num_rows, kind, np.int64),
        pairs(identity),
        pairs(rows.column("content_digest").to_pylist()),
        _clock_ms(rows),
        rows.column("offset").to_numpy(),
    )
