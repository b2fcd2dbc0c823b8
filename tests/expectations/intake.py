"""The engine's way through admission, in memory and in log order: what silver's verdicts are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expectations.admission import Admission, Candidates
from expectations.decoded import broken_rules, control_event, decode
from expectations.reference import short_codes
from lakehouse.crypto import Digests
from lakehouse.registry import registry, schema_ids
from lakehouse.texts import Texts
from lakehouse.topics import EVENT_KINDS


@dataclass(frozen=True)
class Verdict:
    """What became of one record."""

    status: str
    reasons: tuple[str, ...] = ()
    first_offset: int = -1


STATUS = ("accepted", "quarantined", "duplicate")


def admitted(
    admission: Admission, records: Sequence[bytes], broker_ms: Sequence[int], digests: Digests, first: int = 0
) -> list[Verdict]:
    """The verdicts over records that lie on the log from offset `first` on."""
    texts = Texts.of(records)
    ends = texts.start + texts.length
    ids = schema_ids(texts.buffer, texts.start, ends)
    schemas = {s.id: s for s in registry().schemas}
    out = [Verdict("quarantined", ("of no kind of this topic",))] * len(records)
    parts, controls = [], {}
    for schema_id in np.unique(ids).tolist():
        schema = schemas.get(schema_id)
        if schema is None or schema.kind not in EVENT_KINDS:
            continue
        rows = np.flatnonzero(ids == schema_id)
        found = decode(
            schema, texts.buffer.tobytes(), texts.start[rows], ends[rows], np.array(broker_ms)[rows], digests
        )
        if schema.kind == "control":
            for row in np.flatnonzero(found.fault == 0).tolist():
                controls[int(rows[row])] = control_event(found.batch, row)
        parts.append((rows, found, broken_rules(found)))
    if not parts:
        return out
    order = np.argsort(np.concatenate([rows for rows, _, _ in parts]))

    def ordered(columns: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(columns)[order]

    def codes(name: str) -> np.ndarray:
        return ordered(
            [
                np.where(f.batch.has(name), short_codes(f.batch.texts(name)), -1)
                if name in f.batch.columns
                else np.full(f.batch.rows, -1)
                for _, f, _ in parts
            ]
        )

    rows = ordered([rows for rows, _, _ in parts])
    broken = ordered([np.array(names, object) for _, _, names in parts])
    verdicts = admission.admit(
        Candidates(
            offset=rows + first,
            kind=ordered([np.full(f.batch.rows, EVENT_KINDS.index(f.kind)) for _, f, _ in parts]),
            received_ms=ordered([f.batch.numbers("received_at") for _, f, _ in parts]),
            sound=broken == "",
            identity=ordered([f.identity for _, f, _ in parts]),
            content=ordered([f.content for _, f, _ in parts]),
            amount_minor=ordered(
                [
                    f.batch.numbers("amount_minor") if "amount_minor" in f.batch.columns else np.full(f.batch.rows, -1)
                    for _, f, _ in parts
                ]
            ),
            currency=codes("currency"),
            category=codes("merchant_category_code"),
            country=codes("merchant_country"),
            controls={int(np.searchsorted(rows, row)): event for row, event in controls.items()},
        )
    )
    for at, row in enumerate(rows.tolist()):
        status = STATUS[int(verdicts.status[at])]
        reasons = tuple(verdicts.reason(at, broken[at])) if status == "quarantined" else ()
        out[row] = Verdict(status, reasons, int(verdicts.first_offset[at]))
    return out
