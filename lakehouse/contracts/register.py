"""Every table of the product, by name."""

from collections.abc import Mapping

from lakehouse.contracts import bronze, gold, lake, quality, silver
from lakehouse.tables import Table, named

TABLES: Mapping[str, Table] = named(
    (*bronze.TABLES, *silver.TABLES, silver.TOKEN_MAP, *gold.TABLES, *quality.TABLES, *lake.TABLES)
)
