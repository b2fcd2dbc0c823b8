"""The state of admission just before a position, from what silver holds; read without Spark."""

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
from lakehouse.topics import EVENT_KINDS


def _before(root: str, kind: str, topic_id: str, partition: int, position: int, columns: list[str]) -> pa.Table:
    """Rows of a kind below the position, in log order; no rows where the table has not been made."""
    below = Span(topic_id, partition, 0, position)
    return delta.rows(root, BY_KIND[kind], columns, delta.within(below)).sort_by("offset")


def restored(settings: Settings, root: str, topic_id: str, partition: int, position: int) -> Admission:
    """Admission as it stood when record `position` came: clock, ids of the horizon, what was in force."""
    horizon = horizons_ms(settings)
    keyring = source(settings).keyring()
    in_force = InForce(first_token_version=keyring.token_version)
    admission = Admission(horizon, trust(resolve(settings.keys.folder)), in_force)
    digests = Digests(keyring)
    found = {}
    for number, kind in enumerate(EVENT_KINDS):
        columns = ["offset", "content_digest", "engine_clock", *IDENTITY_FIELDS[kind]]
        rows = _before(root, kind, topic_id, partition, position, columns)
        if rows.num_rows:
            clock = rows.column("engine_clock").cast(pa.int64()).to_numpy() // 1000
            found[number] = (rows, clock)
    if not found:
        return admission
    latest = max(int(clock.max()) for _, clock in found.values())
    for number, (rows, clock) in found.items():
        recent = np.flatnonzero(clock + horizon[number] > latest)
        _remember(admission, rows.take(pa.array(recent)), clock[recent], number, digests)
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


def _remember(
    admission: Admission, rows: pa.Table, clock: np.ndarray[tuple[int], np.dtype[np.int64]], kind: int, digests: Digests
) -> None:
    name = EVENT_KINDS[kind]
    keys = zip(*(rows.column(field).to_pylist() for field in IDENTITY_FIELDS[name]), strict=True)
    identity = [digests.identity(name, "\0".join(key).encode()) for key in keys]
    if not identity:
        return
    admission.remember(
        np.full(rows.num_rows, kind, np.int64),
        pairs(identity),
        pairs(rows.column("content_digest").to_pylist()),
        clock,
        rows.column("offset").to_numpy(),
    )
