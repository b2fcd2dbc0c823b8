"""The Spark session: the only place that names jars, extensions, the time zone and Spark's settings."""

import os
import sys

from pyspark.sql import SparkSession

from lakehouse.errors import SettingsError
from lakehouse.settings import Settings, home, resolve

ARCHIVE = "classes.jsa"
GIVEN = "given"
"""As spark.master: a platform starts the session, with its own jars and Spark's own daemon for workers."""
SECURITY = {
    # What spills holds clear values for a moment.
    "spark.io.encryption.enabled": "true",
}
"""What a session that was given has to have been started with; nothing can be set any more."""

PARQUET = {"parquet.page.write-checksum.enabled": "true", "parquet.page.verify-checksum.enabled": "true"}
"""A flipped bit in a data file stops the job instead of becoming another value."""


def _changeable(settings: Settings) -> dict[str, str]:
    """The options of a session that can be set while it runs."""
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
        # Kernels are deterministic in log order; re-planning by size would only change task counts.
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
        "spark.sql.streaming.stateStore.stateSchemaCheck": "true",
        "spark.sql.streaming.kafka.useDeprecatedOffsetFetching": "false",
    }


def _given(settings: Settings) -> SparkSession:
    """The session that the platform has started; SettingsError where it may not be used."""
    session = SparkSession.builder.getOrCreate()
    for key, value in SECURITY.items():
        if session.sparkContext.getConf().get(key) != value:
            raise SettingsError(f"This Spark session was started without {key}={value}.", "Set it where it is started.")
    for key, value in {**_changeable(settings), **PARQUET}.items():
        session.conf.set(key, value)
    return session


def build_session(settings: Settings, name: str, java_options: str = "") -> SparkSession:
    """The session of this process; a second call returns the first one's.

    With spark.master `given` it is the platform's. A local session loads its classes from the archive beside the jars,
    when `make setup` has made it: half of a short job is the JVM's start.
    """
    if settings.spark.master == GIVEN:
        return _given(settings)
    jars = sorted(str(path) for path in resolve(settings.spark.jars_folder).glob("*.jar"))
    if not jars:
        raise SettingsError(
            f"There are no jars in {resolve(settings.spark.jars_folder)}.", "`make setup` fetches them."
        )
    scratch = resolve(settings.spark.scratch_folder)
    scratch.mkdir(parents=True, exist_ok=True)
    # Workers must run this interpreter, else they lack our packages; they find our rooms through PYTHONPATH.
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(home()), os.environ.get("PYTHONPATH"))))
    # One kernel thread per task: Spark already runs a task per core.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "ARROW_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    options = {
        "spark.master": settings.spark.master,
        "spark.driver.memory": settings.spark.driver_memory,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        # `spark.jars` would send them to executors elsewhere; from the class path they can come out of the archive.
        **(
            {"spark.driver.extraClassPath": ":".join(jars)}
            if settings.spark.master.startswith("local")
            else {"spark.jars": ",".join(jars)}
        ),
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.driver.extraJavaOptions": (
            f"-Dlog4j2.configurationFile={home() / 'conf' / 'spark-log4j2.properties'} "
            f"-Dderby.system.home={scratch} -XX:+UseParallelGC {java_options or _archived(settings)} "
            f"{settings.spark.java_options}"
        ),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        **SECURITY,
        # Delta's default of 50 state partitions costs seconds per read on small tables.
        "spark.databricks.delta.snapshotPartitions": "2",
        # Feature values hardly repeat: looking for a dictionary of them is for nothing.
        "spark.hadoop.parquet.enable.dictionary#vector.list.element": "false",
        "spark.python.daemon.module": "lakehouse.worker_daemon",
        "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
        **{f"spark.hadoop.{name}": value for name, value in PARQUET.items()},
        **_changeable(settings),
    }
    builder = SparkSession.builder.appName(f"fraudlake {name}")
    for key, value in options.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _archived(settings: Settings) -> str:
    archive = resolve(settings.spark.jars_folder) / ARCHIVE
    # A JVM that finds the archive of another JVM ignores it; what it says about that helps nobody.
    return f"-XX:SharedArchiveFile={archive} -Xlog:disable" if archive.exists() else ""
