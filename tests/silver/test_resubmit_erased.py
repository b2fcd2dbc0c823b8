"""What silver refused of a customer who was erased since does not come back with a repair."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse import delta, keys
from lakehouse import settings as conf
from lakehouse.contracts import silver
from lakehouse.crypto import Tokens
from lakehouse.settings import Settings
from silver.repairing import RepairRefused
from silver.repairs import Position
from silver.resubmit import record_of_row
from tests.conftest import NewSettings
from tests.filled import row
from tests.lakehouse.records import raw
from tests.silver.sealed import in_bronze

GONE, OTHER = "Canary-Customer-17", "Another-Customer-4"
REFUSED = [
    raw("payment", customer_id=GONE, amount_minor=-1),
    raw("payment", customer_id=OTHER, amount_minor=-1),
    raw("payment", customer_id=GONE)[:-2],
    raw("payment", customer_id=GONE, amount_minor=-2),
]
ERASED_AT = 3
LANDED = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def refused(new_settings: NewSettings, tmp_path: Path) -> tuple[Settings, list[dict[str, object]]]:
    """Settings of a lake in which one customer was erased, and rows that it refused before and after."""
    settings = new_settings(tmp_path)
    source = keys.source(settings)
    (token,) = Tokens(source.keyring()).texts("customer", [GONE.encode()])
    erasure = row(silver.ERASURES, ERASED_AT, erasure_id="e1", customer_token=token)
    delta.append(conf.lake_root(settings), silver.ERASURES, [erasure])
    values = [*REFUSED[:3], b"the erasure", REFUSED[3]]
    return settings, in_bronze(source, values, LANDED, LANDED).to_pylist()


def test_a_refused_record_of_a_customer_who_was_erased_after_it_is_left_sealed(
    refused: tuple[Settings, list[dict[str, object]]],
) -> None:
    settings, rows = refused
    with pytest.raises(RepairRefused, match="erased after it, by erasure e1") as error:
        record_of_row(settings, Position("T", 0, 0), rows[0])
    assert GONE not in str(error.value)


@pytest.mark.parametrize("offset", [1, 2, 4], ids=["another's", "what names nobody", "what came after the erasure"])
def test_everything_else_that_was_refused_can_be_repaired(
    refused: tuple[Settings, list[dict[str, object]]], offset: int
) -> None:
    settings, rows = refused
    assert record_of_row(settings, Position("T", 0, offset), rows[offset]) in REFUSED
