"""The ordered pass: narrow columns of all kinds, in log order, through the one admission; its verdicts as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from expectations.admission import ACCEPTED, DUPLICATE, LABEL, QUARANTINED, Admission, Candidates, Verdicts
from expectations.control import ControlEvent, Staged
from lakehouse.topics import EVENT_KINDS


@dataclass(frozen=True)
class Judged:
    """What became of a range of offsets."""

    received: int
    accepted: int
    quarantined: int
    duplicates: int
    clock_ms: int | None
    accepted_rows: dict[str, pa.Table]
    """By kind: offset and the columns that admission fills."""
    refused_rows: pa.Table
    """offset, kind, reasons, first_offset, content_digest, first_content_digest."""
    duplicate_rows: pa.Table
    """offset, kind, first_offset, content_digest."""


def _times(ms: np.ndarray) -> pa.Array:
    return pa.array(ms * 1000, pa.int64()).cast(pa.timestamp("us", "UTC"))


def _digests(pairs: np.ndarray) -> pa.Array:
    return pa.array([row.tobytes() for row in pairs.astype(">i8")], pa.binary())


def candidates(narrow: pa.Table, controls: dict[int, ControlEvent], staged: dict[int, Staged]) -> Candidates:
    """The narrow columns, in log order, as admission takes them; `controls` and `staged` by offset."""

    def ints(name: str) -> np.ndarray:
        return np.asarray(narrow.column(name).to_numpy())

    offset = ints("offset")
    return Candidates(
        offset=offset,
        kind=ints("kind"),
        received_ms=ints("received_ms"),
        sound=pc.is_null(narrow.column("broken")).to_numpy(),
        identity=np.column_stack([ints("identity_high"), ints("identity_low")]),
        content=np.column_stack([ints("content_high"), ints("content_low")]),
        amount_minor=ints("amount"),
        currency=ints("currency_code"),
        category=ints("category_code"),
        country=ints("country_code"),
        controls={int(np.searchsorted(offset, at)): event for at, event in controls.items()},
        staged={int(np.searchsorted(offset, at)): said for at, said in staged.items()},
    )


def judged(
    admission: Admission,
    narrow: pa.Table,
    controls: dict[int, ControlEvent],
    foreign: Sequence[tuple[int, str]],
    staged: dict[int, Staged],
) -> Judged:
    """Admit a range; `foreign` are offsets of records of no kind of this topic, with the reason."""
    narrow = narrow.sort_by("offset")
    records = candidates(narrow, controls, staged)
    verdicts = admission.admit(records)
    accepted = verdicts.status == ACCEPTED
    repeated = verdicts.status == DUPLICATE
    refused = np.flatnonzero(verdicts.status == QUARANTINED)
    duplicate = np.flatnonzero(repeated)
    return Judged(
        received=len(records.offset) + len(foreign),
        accepted=int(accepted.sum()),
        quarantined=len(refused) + len(foreign),
        duplicates=len(duplicate),
        clock_ms=admission.clock if admission.clock > -(2**62) else None,
        accepted_rows={
            kind: _accepted(narrow, records, verdicts, np.flatnonzero(accepted & (records.kind == number)))
            for number, kind in enumerate(EVENT_KINDS)
        },
        refused_rows=_refused(narrow, records, verdicts, refused, foreign),
        duplicate_rows=pa.table(
            {
                "offset": records.offset[duplicate],
                "kind": pa.array([EVENT_KINDS[k] for k in records.kind[duplicate].tolist()], pa.string()),
                "first_offset": verdicts.first_offset[duplicate],
                "content_digest": _digests(records.content[duplicate]),
            }
        ),
    )


def _accepted(narrow: pa.Table, records: Candidates, verdicts: Verdicts, rows: np.ndarray) -> pa.Table:
    clock = verdicts.engine_clock[rows]
    available = narrow.column("available_ms").to_numpy()[rows]
    return pa.table(
        {
            "offset": records.offset[rows],
            "engine_clock": _times(clock),
            "amount_base_minor": verdicts.amount_base_minor[rows],
            "reference_version": verdicts.reference_version[rows].astype(np.int32),
            "category_risk": pa.array(verdicts.category_risk[rows], from_pandas=True),
            "country_risk": pa.array(verdicts.country_risk[rows], from_pandas=True),
            "effective_at": _times(np.where(records.kind[rows] == LABEL, np.maximum(available, clock), clock)),
        }
    )


def _refused(
    narrow: pa.Table, records: Candidates, verdicts: Verdicts, rows: np.ndarray, foreign: Sequence[tuple[int, str]]
) -> pa.Table:
    broken = narrow.column("broken").take(pa.array(rows)).to_pylist()
    reasons = [verdicts.reason(row, names or "") for row, names in zip(rows.tolist(), broken, strict=True)]
    conflict = verdicts.first_offset[rows] >= 0
    lacking = ~np.concatenate([conflict, np.zeros(len(foreign), np.bool_)])
    none = [None] * len(foreign)

    def where_conflict(values: pa.Array) -> pa.Array:
        return pc.if_else(pa.array(~lacking), pa.concat_arrays([values, pa.array(none, values.type)]), None)

    return pa.table(
        {
            "offset": np.concatenate([records.offset[rows], np.array([o for o, _ in foreign], np.int64)]),
            "kind": pa.array([EVENT_KINDS[k] for k in records.kind[rows].tolist()] + none, pa.string()),
            "reasons": pa.array(reasons + [[reason] for _, reason in foreign], pa.list_(pa.string())),
            "first_offset": where_conflict(pa.array(verdicts.first_offset[rows])),
            "content_digest": where_conflict(_digests(records.content[rows])),
            "first_content_digest": where_conflict(_digests(verdicts.first_content[rows])),
        }
    )
