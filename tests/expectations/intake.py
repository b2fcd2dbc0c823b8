"""The engine's own way through admission, in log order: what silver's verdicts are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

from decisions.intake import Message, taken_in
from expectations.admission import Admission
from lakehouse.crypto import Digests


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
    numbered = enumerate(zip(broker_ms, records, strict=True), start=first)
    intake = taken_in([Message(offset, ms, value) for offset, (ms, value) in numbered], digests)
    verdicts = admission.admit(intake.candidates)
    out = [Verdict("quarantined", ("of no kind of this topic",))] * len(records)
    for part in intake.parts:
        for row, broken in zip(part.rows.tolist(), part.broken, strict=True):
            at = int(intake.place[row])
            if at < 0:
                out[row] = Verdict("quarantined", tuple(broken.split(",")))
                continue
            status = STATUS[int(verdicts.status[at])]
            reasons = tuple(verdicts.reason(at, broken)) if status == "quarantined" else ()
            out[row] = Verdict(status, reasons, int(verdicts.first_offset[at]))
    return out
