"""No clear personal value and no key is anywhere in the lake, in a query plan or in what travels to the workers."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import cloudpickle
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from bronze.sealing import sealing
from lakehouse import keys, storage
from lakehouse.contracts import bronze, silver
from lakehouse.registry import registry
from silver.decisions import opening
from silver.masking import masked_ddl, masking
from tests.lakehouse.records import CARD, every_form
from tests.silver.conftest import PERSON, World

CLEAR = [form for value in {CARD, "C-1", *PERSON.values()} for form in every_form(value.encode()) if len(value) > 5]


@pytest.fixture(scope="module")
def secrets(world: World) -> list[bytes]:
    """The master key and every key that bronze and silver derive, in every form."""
    keyring = keys.source(world.settings).keyring()
    purposes = [f"token|{kind}" for kind in ("card", "customer", "device", "ip", "email", "address")]
    purposes += ["digest|payload", "digest|content", "digest|identity", "seal|silver"]
    days = {row["sealing_key"].split("|")[1] for row in world.lost["bronze.events"]}
    purposes += [f"seal|bronze|{day}" for day in days]
    found = [*keyring.masters.values(), *(keyring.derive(purpose) for purpose in purposes)]
    return [form for key in found for form in (*every_form(key), repr(key)[2:-1].encode())]


def _contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file as it lies on disk and, where it is packed, unpacked: Parquet column by column."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        raw = path.read_bytes()
        yield path, raw
        if path.suffix == ".parquet":
            table = pq.read_table(path, partitioning=None)
            for column in table.columns:
                for value in column.to_pylist():
                    yield path, value if isinstance(value, bytes) else str(value).encode()
        elif path.suffix == ".gz":
            yield path, gzip.decompress(raw)


def test_no_clear_value_and_no_key_is_in_any_file_of_the_lake(world: World, secrets: list[bytes]) -> None:
    wanted = [*CLEAR, *secrets]
    seen = 0
    for path, content in _contents(Path(world.context.root)):
        seen += 1
        for needle in wanted:
            assert needle not in content, path
    assert seen > 1000


def test_the_search_would_find_a_value(tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"x": [PERSON["customer_id"]] * 3}), tmp_path / "x.parquet", compression="zstd")
    assert any(PERSON["customer_id"].encode() in content for _, content in _contents(tmp_path))


def test_no_key_is_in_the_plan_of_the_masking_pass(
    world: World, secrets: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    payment = registry().latest("payment")
    arrived = storage.read(world.context.spark, world.context.root, bronze.EVENTS)
    masked = arrived.where(F.col("schema_id") == payment.id).mapInArrow(
        masking(keys.source(world.settings), payment.id), masked_ddl(silver.PAYMENTS)
    )
    assert masked.count() > 0
    masked.explain(True)
    plan = capsys.readouterr().out
    assert "MapInArrow" in plan
    assert [secret for secret in secrets if secret.decode("latin-1") in plan] == []


def test_no_key_travels_with_the_functions_of_the_workers(world: World, secrets: list[bytes]) -> None:
    source = keys.source(world.settings)
    source.keyring().derive("token|card")
    for function in (
        masking(source, registry().latest("payment").id),
        opening(source, registry().latest("decision").id, [0]),
        sealing(source, "T", datetime.now(UTC)),
    ):
        shipped = cloudpickle.dumps(function)
        assert [secret for secret in secrets if secret in shipped] == []
