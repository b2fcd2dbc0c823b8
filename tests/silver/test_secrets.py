"""No clear personal value and no key is anywhere in the lake, in a query plan or in what travels to the workers."""

import gzip
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import cloudpickle
import pyarrow.parquet as pq
import pytest

from bronze.sealing import sealing
from lakehouse import keys, storage
from lakehouse.contracts import bronze
from lakehouse.data_keys import DataKeys
from lakehouse.key_store import KeyName
from lakehouse.log import configure
from lakehouse.registry import registry
from lakehouse.settings import Log
from silver.emitted import EMITTED, opening
from silver.erasing import looking
from silver.keeping import TOLD_DDL
from silver.masking import READ, masking
from tests.lakehouse.records import CARD, every_form
from tests.silver.conftest import PERSON, World, land

CLEAR = [form for value in {CARD, "C-1", *PERSON.values()} for form in every_form(value.encode()) if len(value) > 5]


def _data_keys(world: World) -> list[KeyName]:
    """Those of days, and of the customers of this world; other tests have their own in the same store."""
    store, topic_id = DataKeys(keys.source(world.settings)).store, world.first["bronze.events"][0]["topic_id"]
    of_days = [key.name for key in store.all("day")]
    return of_days + [key.name for key in store.all("subject") if key.name.id.startswith(topic_id)]


@pytest.fixture(scope="module")
def secrets(world: World) -> list[bytes]:
    """The master key, every key that bronze and silver derive, and every data key, open and wrapped, in every form."""
    keyring = keys.source(world.settings).keyring()
    purposes = [f"token|{kind}" for kind in ("card", "customer", "device", "ip", "email", "address")]
    purposes += ["digest|payload", "digest|content", "digest|identity", "wrap|data"]
    data_keys = DataKeys(keys.source(world.settings))
    held = data_keys.store.find(_data_keys(world)).values()
    opened = [key for key in data_keys.held([key.name for key in held]).values() if key is not None]
    wrapped = [key.wrapped for key in held if key.wrapped is not None]
    assert len(opened) == len(wrapped) >= 3
    found = [*keyring.masters.values(), *(keyring.derive(purpose) for purpose in purposes), *opened, *wrapped]
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
        elif path.suffix == ".sqlite":
            with closing(sqlite3.connect(path)) as database:
                for row in database.execute("SELECT * FROM data_keys"):
                    yield path, b" ".join(v if isinstance(v, bytes) else str(v).encode() for v in row)


def test_no_clear_value_and_no_key_is_in_any_file_of_the_lake(world: World, secrets: list[bytes]) -> None:
    wanted = [*CLEAR, *secrets]
    seen = 0
    for path, content in _contents(Path(world.context.root)):
        seen += 1
        for needle in wanted:
            assert needle not in content, path
    assert seen > 1000


def test_no_clear_value_is_in_the_key_folder_and_no_open_data_key(world: World) -> None:
    opened = DataKeys(keys.source(world.settings)).held(_data_keys(world)).values()
    wanted = [*CLEAR, *(form for key in opened if key is not None for form in every_form(key))]
    seen = set()
    for path, content in _contents(Path(world.settings.keys.folder)):
        seen.add(path.name)
        for needle in wanted:
            assert needle not in content, path
    assert "data_keys.sqlite" in seen


def test_no_key_is_in_the_environment_that_sparks_ui_shows(world: World, secrets: list[bytes]) -> None:
    shown = repr(world.context.spark.sparkContext.getConf().getAll()).encode("latin-1", "replace")
    assert [secret for secret in secrets if secret in shown] == []


def test_no_key_is_said_in_the_log(world: World, secrets: list[bytes], capsys: pytest.CaptureFixture[str]) -> None:
    configure(world.settings.model_copy(update={"log": Log(level="debug", format="json")}), "test")
    try:
        land(world.context)
    finally:
        configure(world.settings, "test")
    said = capsys.readouterr().err.encode()
    assert [secret for secret in secrets if secret in said] == []


def test_the_search_would_find_a_value(tmp_path: Path) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"x": [PERSON["customer_id"]] * 3}), tmp_path / "x.parquet", compression="zstd")
    assert any(PERSON["customer_id"].encode() in content for _, content in _contents(tmp_path))


def test_no_key_is_in_the_plan_of_the_masking_pass_and_nothing_clear_in_what_it_keeps(
    world: World, secrets: list[bytes], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    context = world.context
    arrived = storage.read(context.spark, context.root, bronze.EVENTS).select(*READ)
    told = arrived.mapInArrow(masking(keys.source(world.settings), {}, 1, str(tmp_path)), TOLD_DDL)
    assert {row["kind"] for row in told.collect()} >= {"payment", "narrow"}
    told.explain(True)
    plan = capsys.readouterr().out
    assert "MapInArrow" in plan
    assert [secret for secret in secrets if secret.decode("latin-1") in plan] == []
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [value for value in (*CLEAR, *secrets) if value in kept] == []


def test_no_key_travels_with_the_functions_of_the_workers(world: World, secrets: list[bytes]) -> None:
    source = keys.source(world.settings)
    source.keyring().derive("token|card")
    for function in (
        masking(source, {}, 1, "folder"),
        looking(source, registry().latest("erasure").id, 1),
        opening(source, EMITTED[0], registry().latest("decision").id),
        sealing(source, "T", datetime.now(UTC)),
    ):
        shipped = cloudpickle.dumps(function)
        assert [secret for secret in secrets if secret in shipped] == []
