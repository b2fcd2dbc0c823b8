"""From which offset on bronze still holds a partition: what came before has passed its retention, or was lost."""

from collections.abc import Mapping

import orjson
import pyarrow.compute as pc
from deltalake import DeltaTable

from lakehouse import delta
from lakehouse.storage import written_ends
from lakehouse.tables import Table

EXPIRED = "fraudlake_expired"
"""In the metadata of the commit that takes rows out: by partition, the offset below which the table may lack some."""


def expired_ends(reader: DeltaTable) -> Mapping[str, int]:
    """By `topic_id/partition`, the offset below which retention took rows out; from the last commit that tells."""
    for commit in reader.history():
        metadata = commit.get("userMetadata")
        if metadata and EXPIRED in metadata:
            found: dict[str, int] = orjson.loads(metadata)[EXPIRED]
            return found
    return {}


def first_held(root: str, table: Table, key: str) -> int:
    """The offset from which on a table of bronze holds a partition; its end where it holds nothing any more."""
    if not delta.exists(root, table):
        return 0
    reader = delta.opened(root, table)
    topic_id, partition = key.rsplit("/", 1)
    here = delta.of_partition(topic_id, int(partition))
    batches = delta.dataset(reader).scanner(columns=["offset"], filter=here).to_batches()
    least = [int(pc.min(batch.column(0)).as_py()) for batch in batches if batch.num_rows]
    return max(expired_ends(reader).get(key, 0), min(least)) if least else written_ends(root, table).get(key, 0)
