"""gold.features: the vectors with a column for every feature."""

from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from features.catalogue import FEATURES
from lakehouse.contracts import gold
from lakehouse.tables import Column, Table

NAMED: Table = replace(
    gold.FEATURES,
    columns=(
        *gold.FEATURES.columns,
        *(Column(f.name, "float", f"{f.meaning} ({f.unit})", nullable=True) for f in FEATURES),
    ),
)
"""The contract of gold.features with the catalogue's columns."""


def named(vectors: DataFrame) -> DataFrame:
    """One column a feature; what is missing is null."""
    columns = []
    for at, feature in enumerate(FEATURES):
        value = F.col("vector")[at]
        columns.append(F.when(~F.isnan(value), value).alias(feature.name))
    return vectors.select(*gold.FEATURES.column_names, *columns)
