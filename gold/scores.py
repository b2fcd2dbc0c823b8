"""gold.scores: payments scored in batch by the champion."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from decisions import bundle
from decisions.outcome import RISKS, bands, edges
from features.catalogue import NAMES
from lakehouse.contracts.gold import SCORES
from lakehouse.signing import trust

Batches = Iterable[pa.RecordBatch]


def scoring(store: Path, digest: str, keys_folder: Path) -> Callable[[Batches], Batches]:
    """A function for mapInArrow over features.vectors; the bundle is verified on every worker."""

    def scored(batches: Batches) -> Batches:
        model = bundle.load(store, digest, trust(keys_folder))
        for rows in batches:
            n = rows.num_rows
            X = rows.column("vector").flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(n, len(NAMES))
            scores = model.scores(X)
            risk = np.array(RISKS)[bands(scores.ensemble, edges(model.manifest["cuts"]))]
            kept = [rows.column(name) for name in ("topic_id", "partition", "offset", "transaction_id", "event_time")]
            yield pa.RecordBatch.from_arrays(
                [
                    *kept,
                    pa.array([digest] * n, pa.string()),
                    *(pa.array(x) for x in (scores.ensemble, scores.supervised, scores.isolation_forest)),
                    pa.array(risk.tolist(), pa.string()),
                ],
                names=list(SCORES.column_names),
            )

    return scored


def scores(vectors: DataFrame, store: Path, digest: str, keys_folder: Path) -> DataFrame:
    """The vectors' scores by one bundle."""
    return vectors.mapInArrow(scoring(store, digest, keys_folder), SCORES.ddl.replace(" NOT NULL", ""))
