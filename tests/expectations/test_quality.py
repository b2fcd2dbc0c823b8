"""What came in is counted by dimension; what is too bad is held back from gold and training until it is released."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

import gold.job
from expectations import quality as command
from expectations.dimensions import DIMENSIONS, dimension_of, dimension_of_reason
from expectations.gate import refuse_held
from expectations.scoring import Scores, counted
from expectations.trend import history, recent
from gold import as_of
from gold.job import Gold
from gold.training_set import Recipe
from lakehouse import delta, storage
from lakehouse.contracts import gold as gold_tables
from lakehouse.contracts import quality, silver
from lakehouse.errors import QualityHeld, SettingsError
from lakehouse.settings import Settings
from lakehouse.spans import Span
from lakehouse.tables import Table
from tests.conftest import NewContext
from tests.filled import DAY_1, row
from training.job import train


def payment(offset: int, **given: Any) -> dict[str, Any]:
    usual = {"merchant_category_code": "5411", "merchant_country": "FR", "seconds_late": 1.0, "engine_clock": DAY_1}
    return row(silver.PAYMENTS, offset, **{**usual, **given})


def refused(offset: int, *reasons: str, kind: str | None = "payment") -> dict[str, Any]:
    return row(silver.QUARANTINE, offset, kind=kind, reasons=list(reasons))


def repeated(offset: int) -> dict[str, Any]:
    return row(silver.DUPLICATES, offset, kind="payment")


Put = Callable[[Table, Sequence[dict[str, Any]], int, int], None]


@pytest.fixture
def root(settings: Settings) -> str:
    return str(settings.lake.root)


@pytest.fixture
def put(spark: SparkSession, root: str) -> Put:
    """Adds rows of the offsets [start, end) to a table of the lake."""

    def added(table: Table, rows: Sequence[dict[str, Any]], start: int, end: int) -> None:
        storage.ensure(root, table)
        frame = spark.createDataFrame(list(rows), table.ddl)
        storage.append_once(frame, root, table, [Span("T", 0, start, end)])

    return added


def scores(root: str) -> dict[tuple[int, str, str], tuple[int, int, str]]:
    """(rows, good, state) by last offset, table and dimension."""
    names = ["offset", "table_name", "dimension", "rows", "good", "state"]
    return {
        (r["offset"], r["table_name"], r["dimension"]): (r["rows"], r["good"], r["state"])
        for r in delta.rows(root, quality.SCORES, names).to_pylist()
    }


@pytest.mark.parametrize(
    ("reason", "dimension"),
    [
        ("confidence_required", "completeness"),
        ("amount_plausible", "validity"),
        ("card_well_formed", "validity"),
        ("undecodable_ends_too_early", "validity"),
        ("unknown_schema_id", "validity"),
        ("event_time_plausible", "timeliness"),
        ("received_at_not_ahead", "timeliness"),
        ("available_at_plausible", "timeliness"),
        ("dates_plausible", "consistency"),
        ("conflict", "consistency"),
        ("currency_without_rate", "consistency"),
        ("control_refused: The author's signature by a does not verify.", "consistency"),
    ],
)
def test_every_reason_belongs_to_a_dimension(reason: str, dimension: str) -> None:
    assert dimension_of_reason(reason) == dimension


def test_every_row_rule_belongs_to_a_dimension() -> None:
    assert {dimension_of(rule) for table in silver.BY_KIND.values() for rule in table.rules} < set(DIMENSIONS)


def test_a_batch_is_counted_by_dimension(settings: Settings, root: str, put: Put) -> None:
    late, bare = payment(1, seconds_late=86_401.0), payment(2, merchant_country=None, merchant_category_code=None)
    put(silver.PAYMENTS, [payment(0, engine_clock=DAY_1 - timedelta(hours=1)), late, bare, payment(3)], 0, 10)
    aside = [refused(4, "amount_plausible", "channel_known"), refused(5, "event_time_plausible", "amount_plausible")]
    put(silver.QUARANTINE, [*aside, refused(6, "conflict"), refused(7, "unknown_schema_id", kind=None)], 0, 10)
    put(silver.DUPLICATES, [repeated(8), repeated(9)], 0, 10)
    found = counted(root, Span("T", 0, 0, 10), settings.quality)
    payments = {k[1]: (t.rows, t.good) for k, t in found.tallies.items() if k[0] == "silver.payments"}
    assert payments == {
        "completeness": (7, 6),
        "validity": (7, 5),
        "uniqueness": (9, 7),
        "timeliness": (7, 5),
        "consistency": (7, 6),
    }
    assert {k for k in found.tallies if k[0] != "silver.payments"} == {("bronze.events", "validity")}
    everything = found.tallies["bronze.events", "validity"]
    assert (everything.rows, everything.good) == (10, 9)
    assert everything.clock_end_ms == DAY_1.timestamp() * 1000
    assert everything.clock_start_ms == DAY_1.timestamp() * 1000 - 3_600_000


def test_a_score_is_written_once_and_low_ones_are_said(
    spark: SparkSession, settings: Settings, root: str, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [payment(o) for o in range(1000)]
    put(silver.PAYMENTS, good[:940], 0, 1000)
    put(silver.QUARANTINE, [refused(o, "amount_plausible") for o in range(940, 1000)], 0, 1000)
    writer = Scores(root, settings.quality)
    writer.take(Span("T", 0, 0, 1000))
    writer.take(Span("T", 0, 0, 1000))
    found = scores(root)
    assert found[999, "silver.payments", "validity"] == (1000, 940, "alert")
    assert found[999, "silver.payments", "uniqueness"] == (1000, 1000, "good")
    assert len(found) == 6
    said = capsys.readouterr()
    assert "QUALITY_ALERT" in said.out + said.err
    refuse_held(root, [Span("T", 0, 0, 1000)], settings.quality)


def test_a_batch_that_was_partly_scored_is_scored_from_there_on(
    spark: SparkSession, settings: Settings, root: str, put: Put
) -> None:
    put(silver.PAYMENTS, [payment(o) for o in range(6)], 0, 6)
    writer = Scores(root, settings.quality)
    writer.take(Span("T", 0, 0, 2))
    writer.take(Span("T", 0, 0, 6))
    assert scores(root)[5, "silver.payments", "validity"] == (4, 4, "too_few")
    assert [(t.start, t.end) for t in history(root, "T", 0)["silver.payments", "validity"]] == [(0, 2), (2, 6)]


def test_an_expected_column_that_there_is_not_is_refused(spark: SparkSession, settings: Settings, root: str) -> None:
    wrong = settings.quality.model_copy(update={"expected_columns": ("silver.payments.amount_minor",)})
    with pytest.raises(SettingsError, match=r"quality\.expected_columns names silver\.payments\.amount_minor"):
        Scores(root, wrong)


@pytest.fixture
def bad_interval(spark: SparkSession, settings: Settings, root: str, put: Put) -> Scores:
    """A good batch, one of which half is refused, and a good one again; each of 1,200 records."""
    writer = Scores(root, settings.quality)
    for begin, bad in ((0, 0), (1200, 600), (2400, 0)):
        end = begin + 1200
        put(silver.PAYMENTS, [payment(o) for o in range(begin, end - bad)], begin, end)
        put(silver.QUARANTINE, [refused(o, "amount_plausible") for o in range(end - bad, end)], begin, end)
        writer.take(Span("T", 0, begin, end))
    return writer


def test_a_bad_interval_is_refused_with_table_dimension_score_and_the_command_that_releases_it(
    settings: Settings, root: str, bad_interval: Scores
) -> None:
    assert scores(root)[2399, "silver.payments", "validity"] == (1200, 600, "held")
    refuse_held(root, [Span("T", 0, 0, 1200), Span("T", 0, 2400, 3600), Span("U", 0, 0, 9)], settings.quality)
    with pytest.raises(QualityHeld) as error:
        refuse_held(root, [Span("T", 0, 1100, 1300)], settings.quality)
    assert error.value.what == ("silver.payments: validity of offsets 1200 to 2400 of partition 0 is 0.500, below 0.8.")
    assert (
        "python -m expectations.quality release --table silver.payments --dimension validity "
        "--from-position 1200 --to-position 2400 --why"
    ) in error.value.do


def test_gold_and_training_refuse_the_interval_until_somebody_releases_it(
    settings: Settings,
    root: str,
    bad_interval: Scores,
    context: NewContext,
    put: Put,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = Gold(context(settings))
    storage.ensure(root, gold.job.NAMED)
    storage.ensure(root, gold_tables.TRAINING_SET)
    rows = [row(gold_tables.TRAINING_SET, offset) for offset in (0, 1500)]
    frame = context(settings).spark.createDataFrame(rows, gold_tables.TRAINING_SET.ddl)
    storage.overwrite(frame, root, gold_tables.TRAINING_SET)
    storage.ensure(root, gold_tables.VECTORS)
    steps.name(Span("T", 0, 0, 1200))
    recipe = Recipe.now(root, int(DAY_1.timestamp() * 1000), settings)
    for use in (
        lambda: steps.name(Span("T", 0, 1200, 2400)),
        steps.derive,
        lambda: as_of.run(context(settings), recipe),
        lambda: train(settings, None, None),
    ):
        with pytest.raises(QualityHeld, match=r"silver\.payments: validity of offsets 1200 to 2400"):
            use()

    monkeypatch.setenv("FRAUDLAKE__LAKE__ROOT", root)
    assert command.main(["show"]) == 0
    assert "held: silver.payments: validity of offsets 1200 to 2400" in capsys.readouterr().out
    where = ["--table", "silver.payments", "--dimension", "validity", "--from-position", "1200", "--to-position"]
    assert command.main(["release", *where, "1300", "--why", "too little of it", "--by", "A. Nalyst"]) == 0
    with pytest.raises(QualityHeld):
        steps.name(Span("T", 0, 1200, 2400))
    assert command.main(["release", *where, "2400", "--why", "a test feed", "--by", "A. Nalyst"]) == 0
    steps.name(Span("T", 0, 1200, 2400))
    assert command.main(["release", *where, "2400", "--why", "again", "--by", "A. Nalyst"]) == 1
    assert "Nothing of silver.payments, validity, is held back" in capsys.readouterr().err
    assert command.main(["show"]) == 0
    assert "held:" not in capsys.readouterr().out
    kept = delta.rows(root, quality.RELEASES, ["start_offset", "end_offset", "released_by", "reason"]).to_pylist()
    assert sorted(kept, key=lambda r: r["end_offset"]) == [
        {"start_offset": 1200, "end_offset": 1300, "released_by": "A. Nalyst", "reason": "too little of it"},
        {"start_offset": 1200, "end_offset": 2400, "released_by": "A. Nalyst", "reason": "a test feed"},
    ]


def test_an_interval_in_which_nothing_was_accepted_is_held_too(
    spark: SparkSession, settings: Settings, root: str, put: Put, context: NewContext
) -> None:
    put(silver.PAYMENTS, [payment(0)], 0, 1000)
    put(silver.QUARANTINE, [refused(o, "amount_plausible") for o in range(1, 1001)], 0, 1001)
    Scores(root, settings.quality).take(Span("T", 0, 0, 1))
    Scores(root, settings.quality).take(Span("T", 0, 1, 1001))
    with pytest.raises(QualityHeld, match="offsets 1 to 1001"):
        Gold(context(settings)).derive()


def test_a_window_that_reaches_into_what_was_released_is_judged_by_the_rest(
    spark: SparkSession, settings: Settings, root: str, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Scores(root, settings.quality)
    put(silver.PAYMENTS, [payment(o) for o in range(300)], 0, 1000)
    put(silver.QUARANTINE, [refused(o, "amount_plausible") for o in range(300, 1000)], 0, 1000)
    writer.take(Span("T", 0, 0, 1000))
    put(silver.PAYMENTS, [payment(o) for o in range(1000, 1100)], 1000, 1100)
    writer.take(Span("T", 0, 1000, 1100))
    assert scores(root)[1099, "silver.payments", "validity"] == (100, 100, "held")
    with pytest.raises(QualityHeld, match="offsets 0 to 1100"):
        refuse_held(root, [Span("T", 0, 1000, 1100)], settings.quality)
    monkeypatch.setenv("FRAUDLAKE__LAKE__ROOT", root)
    where = ["--table", "silver.payments", "--dimension", "validity", "--from-position", "0", "--to-position", "1000"]
    assert command.main(["release", *where, "--why", "known"]) == 0
    refuse_held(root, [Span("T", 0, 0, 1100)], settings.quality)


def test_an_interval_that_was_mended_and_judged_again_is_scored_again(
    spark: SparkSession, settings: Settings, root: str, bad_interval: Scores
) -> None:
    mended, span = [payment(o) for o in range(1200, 2400)], Span("T", 0, 1200, 2400)
    storage.overwrite_interval(spark.createDataFrame(mended, silver.PAYMENTS.ddl), root, silver.PAYMENTS, span)
    storage.overwrite_interval(spark.createDataFrame([], silver.QUARANTINE.ddl), root, silver.QUARANTINE, span)
    before = scores(root)
    bad_interval.again(Span("T", 0, 1200, 1210))
    after = scores(root)
    assert after[2399, "silver.payments", "validity"] == (1200, 1200, "good")
    assert {k: v for k, v in after.items() if k[0] != 2399} == {k: v for k, v in before.items() if k[0] != 2399}
    refuse_held(root, [Span("T", 0, 0, 3600)], settings.quality)
    # The next batch follows as if nothing had happened.
    assert storage.written_ends(root, quality.SCORES) == {"T/0": 3600}


def test_scores_that_were_lost_come_back_when_their_offsets_are_judged_again(
    spark: SparkSession, settings: Settings, root: str, put: Put
) -> None:
    few = settings.quality.model_copy(update={"window_rows": 10})
    writer = Scores(root, few)
    for begin, bad in ((0, 0), (10, 5), (20, 0)):
        end = begin + 10
        put(silver.PAYMENTS, [payment(o) for o in range(begin, end - bad)], begin, end)
        put(silver.QUARANTINE, [refused(o, "amount_plausible") for o in range(end - bad, end)], begin, end)
        writer.take(Span("T", 0, begin, end))
    before = scores(root)
    assert before[19, "silver.payments", "validity"] == (10, 5, "held")
    # A lost data file in the middle, then commits at the end, as `lakehouse.repair` leaves the table.
    DeltaTable(quality.SCORES.path(root)).delete("`offset` = 19")
    refuse_held(root, [Span("T", 0, 0, 30)], few)
    writer.again(Span("T", 0, 10, 20))
    assert scores(root) == before
    storage.cut_back(spark, root, quality.SCORES, Span("T", 0, 10, 10))
    for begin in (10, 20):
        writer.again(Span("T", 0, begin, begin + 10))
    assert scores(root) == before
    assert storage.written_ends(root, quality.SCORES) == {"T/0": 30}
    with pytest.raises(QualityHeld, match="offsets 10 to 20"):
        refuse_held(root, [Span("T", 0, 0, 30)], few)


def test_recent_batches_are_those_that_the_next_window_can_reach(
    settings: Settings, root: str, bad_interval: Scores
) -> None:
    found = recent(root, "T", 0)["silver.payments", "validity"]
    assert [(t.start, t.end, t.good) for t in found] == [(2400, 3600, 1200)]


def test_a_lake_that_was_never_scored_holds_nothing_back(tmp_path: Path, settings: Settings) -> None:
    refuse_held(str(tmp_path / "lake"), [Span("T", 0, 0, 10)], settings.quality)
