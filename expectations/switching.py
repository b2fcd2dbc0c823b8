"""Where a log changes the key version of its tokens, and how far silver.token_map to a version goes.

The version at a position follows from silver.control alone, never from now: what is done again gets the same tokens.
"""

from typing import NamedTuple

import pyarrow.compute as pc

from expectations.control import token_version_of
from lakehouse import delta, storage
from lakehouse.contracts import silver
from lakehouse.errors import RangeMissing
from lakehouse.keys import source
from lakehouse.settings import Settings
from lakehouse.spans import Span

END = 2**62


class Switch(NamedTuple):
    """A control event of scope `keys` in force: records behind `offset` have tokens of `version`."""

    offset: int
    version: int


def switches(root: str, topic_id: str, partition: int, before: int = END) -> list[Switch]:
    """The switches of a partition below a position, in the order of the log."""
    here = delta.within(Span(topic_id, partition, 0, before)) & (pc.field("scope") == "keys")
    rows = delta.rows(root, silver.CONTROL, ["offset", "payload"], here).to_pylist()
    return sorted(Switch(row["offset"], token_version_of(row["payload"])) for row in rows)


def token_version(settings: Settings, root: str, topic_id: str, partition: int, position: int = END) -> int:
    """The key version of the tokens of a record at a position, as far as silver knows."""
    found = switches(root, topic_id, partition, position)
    return found[-1].version if found else source(settings).keyring().token_version


def map_key(topic_id: str, partition: int, version: int) -> str:
    """The name under which the commits of silver.token_map say how far the map to a version goes."""
    return f"{topic_id}/{partition}/to-{version}"


def refuse_gaps(root: str, topic_id: str, partition: int, found: list[Switch]) -> None:
    """RangeMissing where the map of a switch does not reach it."""
    ends = storage.written_ends(root, silver.TOKEN_MAP)
    for switch in found:
        end = ends.get(map_key(topic_id, partition, switch.version), 0)
        if end <= switch.offset:
            raise RangeMissing(
                f"Tokens are of version {switch.version} behind offset {switch.offset}; silver.token_map to it goes to "
                f"offset {end}.",
                f"python -m silver.tokens prepare --to {switch.version}",
            )
