"""gold.training_set: vectors with what was known of them at a moment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from features.catalogue import NAMES, feature_set_hash
from gold.labels import findings
from lakehouse import delta, sourced, storage
from lakehouse.contracts import silver
from lakehouse.contracts.gold import TRAINING_SET, VECTORS
from lakehouse.label_ledger import Trust
from lakehouse.moments import DAY_MS
from lakehouse.settings import Settings
from lakehouse.storage import Span
from lakehouse.tables import Table

RECOMPUTED, LOGGED = "recomputed", "logged"
VECTORS_OF = {RECOMPUTED: VECTORS, LOGGED: silver.DECISIONS}
"""Where a training set has its vectors from: the history driver, or what the engine logged with its decisions."""

_HOUR_MS = 3_600_000


def due(held: Sequence[Mapping[str, Any]], as_of_ms: int, interval_h: int) -> bool:
    """Whether a new training set is wanted; `held` is a row of the last one (as_of, feature_set), or nothing.

    It is when the features are others, or `interval_h` have passed on the engine's clock.
    """
    if not held or held[0]["feature_set"] != feature_set_hash():
        return True
    return bool(as_of_ms >= held[0]["as_of"].timestamp() * 1000 + interval_h * _HOUR_MS)


def training_set(
    vectors: DataFrame, payments: DataFrame, labels: DataFrame, as_of_ms: int, label_gap_d: int, trust: Trust
) -> DataFrame:
    """One row a payment before `as_of_ms`; labels that arrived later do not exist yet."""
    position = ["topic_id", "partition", "offset"]
    who = payments.where(F.unix_millis("engine_clock") <= as_of_ms).select(
        *position, "card_token", "customer_token", "amount_base_minor"
    )
    rows = vectors.join(who, position).join(findings(labels, as_of_ms, trust), "transaction_id", "left")
    return (
        rows.withColumn("is_fraud", F.coalesce("is_fraud", F.lit(False)))
        .withColumn("is_mature", F.unix_millis("event_time") <= as_of_ms - label_gap_d * DAY_MS)
        .withColumn("as_of", F.timestamp_millis(F.lit(as_of_ms)))
        .select(*TRAINING_SET.column_names)
    )


def logged(decisions: DataFrame) -> DataFrame:
    """The vectors that the engine logged, as rows of features.vectors; those of other feature sets are left out."""
    mine = decisions.where((F.col("feature_set") == feature_set_hash()) & F.col("vector").isNotNull())
    return mine.select(*VECTORS.column_names).mapInArrow(_as_lists, VECTORS.ddl.replace(" NOT NULL", ""))


def _as_lists(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    for rows in batches:
        numbers = np.frombuffer(b"".join(rows.column("vector").to_pylist()), np.float32)
        bounds = np.arange(rows.num_rows + 1, dtype=np.int32) * len(NAMES)
        lists = pa.ListArray.from_arrays(pa.array(bounds), pa.array(numbers))
        yield rows.set_column(rows.schema.get_field_index("vector"), "vector", lists)


@dataclass(frozen=True)
class Recipe:
    """Everything that the rows of a training set follow from; the commit that wrote it records it."""

    as_of_ms: int
    label_gap_d: int
    trust: Trust
    versions: Mapping[str, int]
    """Delta version of each source table, -1 for one that was not there."""
    features: str = RECOMPUTED

    @staticmethod
    def now(root: str, as_of_ms: int, settings: Settings, features: str = RECOMPUTED) -> "Recipe":
        """The recipe of a training set from the tables as they are."""
        versions = {table.name: storage.version(root, table) for table in _sources(features)}
        return Recipe(as_of_ms, settings.training.label_gap_d, Trust.of(settings.labels), versions, features)

    @staticmethod
    def of(root: str, version: int) -> "Recipe | None":
        """The recipe that a version of gold.training_set records; None where it records none that can be followed.

        One without `trust` was made by another rule, of an earlier release.
        """
        found = sourced.sources(root, TRAINING_SET, version)
        if "trust" not in found:
            return None
        trust = Trust(tuple(found["trust"]["sources"]), found["trust"]["least_confidence"])
        return Recipe(**{**found, "trust": trust})


def _sources(features: str) -> tuple[Table, Table, Table]:
    return VECTORS_OF[features], silver.PAYMENTS, silver.LABELS


def made(spark: SparkSession, root: str, recipe: Recipe) -> DataFrame:
    """The rows of a recipe: always the same ones, whatever came into the tables since."""
    sources = _sources(recipe.features)
    vectors, payments, labels = (storage.read(spark, root, table, recipe.versions[table.name]) for table in sources)
    if recipe.features == LOGGED:
        vectors = logged(vectors)
    return training_set(vectors, payments, labels, recipe.as_of_ms, recipe.label_gap_d, recipe.trust)


def spans_until(root: str, as_of_ms: int) -> list[Span]:
    """The offsets that a training set as of a moment is made from, by partition: up to its last accepted payment."""
    moment = pa.scalar(as_of_ms * 1000, pa.timestamp("us", "UTC"))
    return delta.spans(root, silver.PAYMENTS, pc.field("engine_clock") <= moment)


def write(spark: SparkSession, root: str, recipe: Recipe) -> None:
    """Make gold.training_set by a recipe and record it in the commit."""
    storage.overwrite(made(spark, root, recipe), root, TRAINING_SET, asdict(recipe))
