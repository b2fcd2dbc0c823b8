"""Which records of a range entered the log again for a refused one, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from silver.admitting import Judged

ACCEPTED, QUARANTINED, DUPLICATE = "accepted", "quarantined", "duplicate"


@dataclass(frozen=True, order=True)
class Position:
    """Where a record lies."""

    topic_id: str
    partition: int
    offset: int

    @staticmethod
    def of(text: str) -> "Position":
        """The position that a header names, `topic id/partition/offset`."""
        topic_id, partition, offset = text.split("/")
        return Position(topic_id, int(partition), int(offset))

    def __str__(self) -> str:
        return f"{self.topic_id}/{self.partition}/{self.offset}"


def repair_rows(repairs: Sequence[tuple[int, str]], verdicts: Judged) -> pa.Table:
    """The part of silver.repairs that is not in bronze; `repairs` are offsets and what each says it repairs."""
    accepted = {o for rows in verdicts.accepted_rows.values() for o in rows.column("offset").to_pylist()}
    repeated = set(verdicts.duplicate_rows.column("offset").to_pylist())
    places = [Position.of(text) for _, text in repairs]
    return pa.table(
        {
            "offset": pa.array([offset for offset, _ in repairs], pa.int64()),
            "repaired_topic_id": pa.array([place.topic_id for place in places], pa.string()),
            "repaired_partition": pa.array([place.partition for place in places], pa.int32()),
            "repaired_offset": pa.array([place.offset for place in places], pa.int64()),
            "outcome": pa.array(
                [ACCEPTED if o in accepted else DUPLICATE if o in repeated else QUARANTINED for o, _ in repairs],
                pa.string(),
            ),
        }
    )
