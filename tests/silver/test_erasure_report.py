"""The report of an erasure states the day by which nothing is left, whatever was landed again since."""

from datetime import UTC, date, datetime

from lakehouse import delta
from lakehouse import settings as conf
from lakehouse.contracts import bronze, silver
from lakehouse.settings import Settings
from silver import erasure
from tests.filled import row


def test_records_that_were_landed_again_on_a_later_day_expire_with_the_key_of_that_day(settings: Settings) -> None:
    root = conf.lake_root(settings)
    told = {"erasure_id": "e1", "customer_token": "v1:x", "state": "expires", "until": date(2026, 2, 1)}
    places = ("bronze.events", "silver.quarantine", "topic events")
    delta.append(root, silver.ERASURE_REPORT, [row(silver.ERASURE_REPORT, 7, place=name, **told) for name in places])
    for offset, day in ((3, datetime(2026, 1, 20, tzinfo=UTC)), (7, datetime(2026, 1, 1, tzinfo=UTC))):
        delta.append(root, bronze.EVENTS, [row(bronze.EVENTS, offset, ingested_at=day, ingest_date=day.date())])
    behind = datetime(2026, 2, 25, tzinfo=UTC)
    delta.append(root, bronze.EVENTS, [row(bronze.EVENTS, 8, ingested_at=behind, ingest_date=behind.date())])
    delta.append(root, silver.QUARANTINE, [row(silver.QUARANTINE, 5, ingested_at=datetime(2026, 1, 1, tzinfo=UTC))])
    assert settings.bronze.retention_d == 30
    found = {place["place"]: place["until"] for place in erasure.report(settings, "e1")["places"]}
    assert found == {"bronze.events": "2026-02-20", "silver.quarantine": "2026-02-01", "topic events": "2026-02-01"}
