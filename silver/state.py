"""The state of admission just before a position, from what silver already holds."""

from functools import reduce

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from expectations.admission import Admission, horizons_ms
from expectations.control import Version, payload_digest
from expectations.decoded import IDENTITY_FIELDS, pairs
from lakehouse import storage
from lakehouse.contracts.silver import BY_KIND
from lakehouse.crypto import Digests
from lakehouse.jobs import Context
from lakehouse.keys import source
from lakehouse.settings import resolve
from lakehouse.signing import trust
from lakehouse.storage import Span
from lakehouse.topics import EVENT_KINDS


def _before(context: Context, kind: str, span: Span) -> DataFrame:
    rows = storage.read(context.spark, context.root, BY_KIND[kind])
    return rows.where(
        (F.col("topic_id") == span.topic_id) & (F.col("partition") == span.partition) & (F.col("offset") < span.start)
    )


def restored(context: Context, span: Span) -> Admission:
    """Admission as it stood when the first record of the span came: clock, ids of the horizon, what was in force."""
    settings = context.settings
    horizon = horizons_ms(settings)
    admission = Admission(horizon, trust(resolve(settings.keys.folder)))
    if span.start == 0:
        return admission
    present = [kind for kind in EVENT_KINDS if storage.exists(context.root, BY_KIND[kind])]
    clocks = [_before(context, kind, span).agg(F.max("engine_clock").alias("clock")) for kind in present]
    latest = reduce(DataFrame.unionAll, clocks).agg(F.max("clock")).collect()[0][0] if clocks else None
    if latest is None:
        return admission
    clock_ms = int(latest.timestamp() * 1000)
    digests = Digests(source(settings).keyring())
    for kind in present:
        number = EVENT_KINDS.index(kind)
        fields = IDENTITY_FIELDS[kind]
        recent = (
            _before(context, kind, span)
            .where(F.unix_millis("engine_clock") > clock_ms - int(horizon[number]))
            .select("offset", "content_digest", F.unix_millis("engine_clock").alias("clock"), *fields)
            .orderBy("offset")
        )
        _remember(admission, recent.toArrow(), number, fields, digests)
    admission.clock = clock_ms
    _in_force(context, span, admission)
    return admission


def _remember(admission: Admission, rows: pa.Table, kind: int, fields: tuple[str, ...], digests: Digests) -> None:
    if rows.num_rows == 0:
        return
    keys = zip(*(rows.column(name).to_pylist() for name in fields), strict=True)
    identity = [digests.identity(EVENT_KINDS[kind], "\0".join(key).encode()) for key in keys]
    admission.remember(
        np.full(rows.num_rows, kind, np.int64),
        pairs(identity),
        pairs(rows.column("content_digest").to_pylist()),
        rows.column("clock").to_numpy(),
        rows.column("offset").to_numpy(),
    )


def _in_force(context: Context, span: Span, admission: Admission) -> None:
    rows = _before(context, "control", span).orderBy("offset").select("scope", "version", "payload").collect()
    admission.in_force.restore(
        {r["scope"]: Version(r["version"], payload_digest(r["payload"]), r["payload"]) for r in rows}
    )
