"""Records on their way to a shard: of each kind only what the shard's group looks at, as packed numpy rows.

Nearly all that Spark's shuffle does for the history driver is moving these bytes.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from features.entities import WHO
from features.groups import Group
from features.inputs import Placed
from features.long_term import NAMED
from features.records import AUTHORISED, LABELLED, PAID, empty

KINDS = (PAID, AUTHORISED, LABELLED)

_NUMBERS = {
    PAID: ("event_ms", "amount"),
    AUTHORISED: ("event_ms",),
    LABELLED: ("event_ms", "amount", "label_id", "reverses"),
}


@cache
def _who(group: Group, what: int) -> list[int]:
    """Columns of Records.who that the group's kernels read of a kind."""
    names = {group.keyed_by}
    if what == PAID:
        names.update(group.named, () if group.rings else NAMED)
    return sorted(WHO.index(name) for name in names)


@cache
def _layout(group: Group, what: int) -> np.dtype[np.void]:
    own = [("place", np.float64, (3,)), ("payment", np.float64, (len(group.carried),))]
    return np.dtype(
        [
            *((name, np.int64) for name in ("offset", "clock_ms", *_NUMBERS[what])),
            ("who", np.int64, (len(_who(group, what)),)),
            *(own[group.rings :] if what == PAID else ()),  # rings know no places
            ("flags", np.uint8),
        ]
    )


def flat(placed: Placed, group: Group, what: int) -> npt.NDArray[np.void]:
    """Records of one kind as rows for a group."""
    records = placed.records
    out = np.empty(len(placed.offset), _layout(group, what))
    out["offset"], out["clock_ms"], out["flags"] = placed.offset, placed.clock_ms, records.flags
    out["who"] = records.who[:, _who(group, what)]
    for name in _NUMBERS[what]:
        out[name] = getattr(records, name)
    if what == PAID:
        out["payment"] = records.payment[:, group.carried]
    if "place" in (out.dtype.names or ()):
        out["place"] = records.place
    return out


def of_bytes(rows: bytes, group: Group, what: int) -> npt.NDArray[np.void]:
    """Rows that `flat` made, from their bytes."""
    return np.frombuffer(rows, _layout(group, what))


def unflat(rows: npt.NDArray[np.void], group: Group, what: int) -> Placed:
    """The records of rows; what was not sent is as in no record."""
    n = len(rows)
    columns = {name: np.ascontiguousarray(rows[name]) for name in (*_NUMBERS[what], "flags")}
    records = empty(n)._replace(what=np.full(n, what, np.int8), **columns)
    records.who[:, _who(group, what)] = rows["who"]
    if what == PAID:
        records.payment[:] = np.nan
        records.payment[:, group.carried] = rows["payment"]
    if "place" in (rows.dtype.names or ()):
        records.place[:] = rows["place"]
    return Placed(records, np.ascontiguousarray(rows["offset"]), np.ascontiguousarray(rows["clock_ms"]))
