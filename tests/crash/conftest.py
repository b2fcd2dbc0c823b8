"""One small world that went the whole way in two batches; the tests of this folder copy and damage it."""

import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from deltalake import DeltaTable

import bronze.job
import features.job
import silver.job
from decisions import control
from gold.job import Gold
from gold.named import NAMED
from lakehouse import broker as log
from lakehouse import settings as conf
from lakehouse import storage, topics
from lakehouse.contracts import bronze as bronze_tables
from lakehouse.contracts import gold as gold_tables
from lakehouse.contracts import quality
from lakehouse.contracts import silver as silver_tables
from lakehouse.errors import FraudlakeError
from lakehouse.intervals import Flow, drive
from lakehouse.jobs import Context, Interval
from lakehouse.settings import Settings
from lakehouse.tables import Table
from simulator.options import Options
from simulator.world import days, world
from tests.conftest import NewContext, NewSettings
from tests.crash.bronze_states import set_back
from tests.silver.conftest import Sent, decided, produce

DAY_MS = 86_400_000
TABLES = (*bronze_tables.TABLES, *silver_tables.TABLES, quality.SCORES, gold_tables.VECTORS, NAMED)
JUDGED = (*silver_tables.BY_KIND.values(), silver_tables.QUARANTINE, silver_tables.DUPLICATES)


def name_features(context: Context) -> None:
    """The step of gold that follows vectors by position."""
    storage.ensure(context.root, NAMED)
    drive(context, [Flow(gold_tables.VECTORS, NAMED, 100_000, Gold(context).name)], 1)


JOBS: Mapping[str, Callable[[Context], None]] = {
    "bronze": bronze.job.run,
    "silver": silver.job.run,
    "features": features.job.run,
    "gold": name_features,
}


def events(settings: Settings) -> list[bytes]:
    """Payments, authorisations, labels and some faulty records of a small world."""
    end_ms = int(time.time() * 1000) - 3_600_000
    options = Options(end_ms=end_ms, days=2, payments_per_day=240, seed=5, fraud_rate=0.02, faults=1)
    return [value for day in days(world(options)) for value in day.records.payload.to_list()]


def activate_reference(settings: Settings) -> None:
    """Put the reference table into force, long ago."""
    keys = conf.resolve(settings.keys.folder)
    reference = (conf.home() / "conf" / "reference.json").read_text()
    long_ago = int(time.time() * 1000) - 10 * DAY_MS
    control.activate(settings, "reference", reference, keys / "author.pem", keys / "approver.pem", long_ago)


def positions(root: str, table: Table) -> list[int]:
    """The source offsets of a table's rows."""
    assert table.position is not None
    if not DeltaTable.is_deltatable(table.path(root)):
        return []
    rows = DeltaTable(table.path(root)).to_pyarrow_table(columns=[table.position[2]])
    return list(rows.column(0).to_pylist())


@dataclass(frozen=True)
class Lake:
    """A copy of the world, to be damaged."""

    context: Context
    first: Mapping[str, int]
    """Delta's versions of the tables after the first batch."""

    @property
    def root(self) -> Path:
        """The lake."""
        return Path(self.context.root)

    @property
    def snapshots(self) -> Path:
        """The folder of the history driver's snapshots."""
        return conf.resolve(self.context.settings.features.snapshot_folder)

    def path(self, table: Table) -> Path:
        """A table's folder."""
        return Path(table.path(str(self.root)))

    def set_back(self, *tables: Table) -> None:
        """These tables as they were after the first batch: the commits of the second were never made."""
        for table in tables:
            version = DeltaTable(str(self.path(table))).version()
            set_back(self.path(table), version - self.first[table.name])

    def restore(self, table: Table) -> None:
        """The table as Delta's own RESTORE leaves it: a new commit, with the rows of the first batch."""
        spark = self.context.spark
        spark.sql(f"RESTORE TABLE delta.`{self.path(table)}` TO VERSION AS OF {self.first[table.name]}")

    def compact(self, table: Table) -> None:
        """Fewer, larger files with the same rows."""
        self.context.spark.sql(f"OPTIMIZE delta.`{self.path(table)}`")

    def run(self, hop: str) -> str:
        """Run a job over it; where it refuses, do the repair that its error names. The error's name, or nothing."""
        try:
            JOBS[hop](self.context)
        except FraudlakeError as error:
            refused = error
        else:
            return ""
        found = re.search(r"python -m (\w+)\.job --from-position (\d+) --to-position (\d+)", refused.do)
        assert found is not None, refused
        again = Context(self.context.settings, self.context.spark, True, Interval(int(found[2]), int(found[3])))
        JOBS[found[1]](again)
        JOBS[hop](self.context)
        return type(refused).__name__


@dataclass(frozen=True)
class Recorded:
    """The world as it was recorded."""

    settings: Settings
    context: NewContext
    folder: Path
    first: Mapping[str, int]
    records: int
    decisions: int

    def copy(self, folder: Path) -> Lake:
        """A copy in a folder."""
        shutil.copytree(self.folder, folder / "copy")
        return Lake(self.context(_in(self.settings, folder / "copy")), self.first)


def _in(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(
        update={
            "lake": settings.lake.model_copy(update={"root": str(folder / "lake")}),
            "features": settings.features.model_copy(update={"snapshot_folder": folder / "snapshots"}),
        }
    )


@pytest.fixture(scope="session")
def recorded_world(
    broker: str, new_settings: NewSettings, context: NewContext, tmp_path_factory: pytest.TempPathFactory
) -> Recorded:
    """The world before it is damaged."""
    folder = tmp_path_factory.mktemp("recorded-world")
    settings = _in(new_settings(folder), folder)
    topics.ensure(settings)
    activate_reference(settings)
    values, decisions = events(settings), decided()
    now = context(settings)
    first: dict[str, int] = {}
    for part in (0, 1):
        produce(settings, topics.EVENTS, [Sent(value) for value in values[part * 500 : 500 if part == 0 else None]])
        # What is not a decision goes to nobody.
        produce(settings, topics.DECISIONS, [Sent(v) for v in (decisions[:50], decisions[50:])[part]])
        for job in JOBS.values():
            job(now)
        first = first or {t.name: DeltaTable(t.path(now.root)).version() for t in TABLES if storage.exists(now.root, t)}
    _, end = log.watermarks(settings, topics.topic_name(settings, topics.EVENTS), 0)
    assert sorted(offset for table in JUDGED for offset in positions(now.root, table)) == list(range(end))
    assert len(positions(now.root, silver_tables.QUARANTINE)) > 0
    return Recorded(settings, context, folder, first, end, len(positions(now.root, silver_tables.DECISIONS)))
