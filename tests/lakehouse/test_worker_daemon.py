"""A Python worker of Spark loads and looks for nothing that its daemon has not loaded for all of them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from lakehouse.worker_daemon import folders


def test_archives_inside_an_installed_package_are_not_looked_through_and_others_are(tmp_path: Path) -> None:
    site, library = tmp_path / "site", tmp_path / "site" / "pyspark" / "python" / "lib"
    library.mkdir(parents=True)
    (site / "pyspark" / "__init__.py").touch()
    inside, rooms, distribution = library / "pyspark.zip", tmp_path / "rooms.zip", tmp_path / "spark" / "pyspark.zip"
    distribution.parent.mkdir()
    for archive in (inside, rooms, distribution):
        archive.touch()
    path = [str(each) for each in (rooms, inside, distribution, tmp_path / "nowhere.zip", site)]
    assert folders(path) == [str(each) for each in (rooms, distribution, tmp_path / "nowhere.zip", site)]


def test_an_archive_stays_where_its_package_is_not_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "pyspark").mkdir()
    (tmp_path / "pyspark" / "__init__.py").touch()
    archive = tmp_path / "pyspark" / "pyspark.zip"
    archive.touch()
    assert folders([str(archive)]) == [str(archive)]


def _telling(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    told = [
        ("archive", path) for path, finder in sys.path_importer_cache.items() if type(finder).__name__ == "zipimporter"
    ]
    told += [("loaded", name) for name in ("pandas", "bronze.sealing", "silver.masking") if name in sys.modules]
    for _ in batches:
        yield pa.RecordBatch.from_pydict(
            {"what": [what for what, _ in told], "name": [name for _, name in told]},
            pa.schema([("what", pa.string()), ("name", pa.string())]),
        )


def test_a_task_finds_spark_where_it_is_installed_and_its_modules_loaded(spark: SparkSession) -> None:
    told = spark.range(1, numPartitions=1).mapInArrow(_telling, "what string, name string").collect()
    assert sorted((row.what, row.name) for row in told) == [
        ("loaded", "bronze.sealing"),
        ("loaded", "pandas"),
        ("loaded", "silver.masking"),
    ]
