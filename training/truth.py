"""Which pattern a fraud was, as the simulator's truth file tells it; labels say fraud or not, never which."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.errors import FraudlakeError

Flags = npt.NDArray[np.bool_]


def told(path: Path) -> pa.Table:
    """(transaction_id, pattern) of the frauds in a truth file; FraudlakeError where it is none."""
    try:
        rows = pq.read_table(path, columns=["transaction_id", "scenario"])
    except (OSError, pa.ArrowException) as error:
        raise FraudlakeError(
            f"{path} cannot be read: {error}.", "--truth takes Parquet with transaction_id and scenario."
        ) from None
    named = rows.filter(rows.column("scenario").is_valid())
    return named.rename_columns(["transaction_id", "pattern"])


def by_pattern(truth: pa.Table, transaction_id: pa.Array) -> dict[str, Flags]:
    """Of every pattern which of the payments are frauds of it; patterns that none is of are left out."""
    at = pc.index_in(transaction_id, value_set=truth.column("transaction_id").combine_chunks())
    names = truth.column("pattern").take(at)
    return {
        name: pc.fill_null(pc.equal(names, name), False).to_numpy().astype(np.bool_)
        for name in sorted(names.drop_null().unique().to_pylist())
    }
