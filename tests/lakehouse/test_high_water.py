"""A table that is not what its commits made of it is refused, and a record that a crash left behind catches up."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import fs

from lakehouse import delta, high_water, mending, storage
from lakehouse.crash import VARIABLE
from lakehouse.damage import CHECKPOINT, DAMAGED_FILE, LOST_FILE, WRONG_RECORD, look
from lakehouse.errors import TableDamaged
from lakehouse.files import Objects, arrow_schema
from lakehouse.settings import home
from lakehouse.tables import POSITION, Column, Table

SALES = Table(
    name="test.sales",
    meaning="Amounts by source position.",
    grain="one sale",
    key=("topic_id", "partition", "offset"),
    columns=(*POSITION, Column("amount_minor", "bigint", "cents")),
)


def sales(start: int, end: int) -> list[dict[str, object]]:
    return [{"topic_id": "T", "partition": 0, "offset": n, "amount_minor": 100 + n} for n in range(start, end)]


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A lake with a table of three commits and fifteen sales."""
    for start in (0, 5, 10):
        delta.append(str(tmp_path), SALES, sales(start, start + 5))
    return str(tmp_path)


def commit(root: str, version: int) -> Path:
    return Path(SALES.path(root)) / high_water.commit_name(version)


def record(root: str) -> Path:
    return Path(root) / "_high_water" / "test.sales.json"


def data_files(root: str) -> list[Path]:
    return [Path(SALES.path(root)) / path for path in high_water.paths(DeltaTable(SALES.path(root)))]


def test_a_record_lies_outside_of_its_table_and_says_how_far_it_came(root: str) -> None:
    assert Path(SALES.path(root)) not in record(root).parents
    assert orjson.loads(record(root).read_bytes()) == {
        "version": 3,
        "digest": high_water.digest_of(commit(root, 3).read_bytes()),
        "rows": 15,
        "amount": sum(range(100, 115)),
    }


def _empty(root: str) -> None:
    commit(root, 3).write_bytes(b"")


def _zeros(root: str) -> None:
    commit(root, 3).write_bytes(bytes(4096))


def _torn(root: str) -> None:
    commit(root, 3).write_bytes(commit(root, 3).read_bytes()[:-20])


def _missing(root: str) -> None:
    commit(root, 3).unlink()


def _other(root: str) -> None:
    commit(root, 3).write_bytes(commit(root, 2).read_bytes())


def _middle(root: str) -> None:
    commit(root, 2).write_bytes(b"")


def _gap(root: str) -> None:
    commit(root, 2).unlink()


def _gone(root: str) -> None:
    shutil.rmtree(SALES.path(root))


def _no_record(root: str) -> None:
    record(root).write_bytes(b'{"version": 3')


DAMAGES: list[tuple[Callable[[str], None], str, int]] = [
    (_empty, high_water.EMPTY, 2),
    (_zeros, high_water.EMPTY, 2),
    (_torn, high_water.TORN, 2),
    (_missing, high_water.MISSING, 2),
    (_other, high_water.OTHER, 2),
    (_middle, high_water.ROWS, 1),
    (_gap, high_water.UNREADABLE, 1),
    (_gone, high_water.GONE, -1),
    (_no_record, high_water.RECORD, -1),
]


@pytest.mark.parametrize(("damage", "symptom", "good"), DAMAGES, ids=[d[0].__name__[1:] for d in DAMAGES])
def test_a_damaged_table_is_neither_read_nor_appended_to(
    root: str, damage: Callable[[str], None], symptom: str, good: int
) -> None:
    damage(root)
    expected = rf"test\.sales is damaged( at version \d+)?: {symptom}.*python -m lakehouse\.repair --table test\.sales"
    for use in (
        lambda: delta.rows(root, SALES, ["offset"]),
        lambda: delta.count(root, SALES),
        lambda: delta.append(root, SALES, sales(15, 16)),
        lambda: storage.written_ends(root, SALES),
    ):
        with pytest.raises(TableDamaged, match=expected):
            use()
    (finding,) = look(root, SALES)
    assert (finding.table, finding.good) == (SALES, good)


def test_a_sound_table_has_no_findings(root: str) -> None:
    assert look(root, SALES) == []


def test_a_table_ahead_of_its_record_by_valid_commits_is_read_and_the_record_catches_up(root: str) -> None:
    behind = record(root).read_bytes()
    delta.append(root, SALES, sales(15, 18))
    write_deltalake(SALES.path(root), pa.Table.from_pylist(sales(18, 20), arrow_schema(SALES)), mode="append")
    record(root).write_bytes(behind)
    assert delta.count(root, SALES) == 20
    mark = high_water.held(root, SALES)
    assert mark is not None
    assert (mark.version, mark.rows, mark.amount) == (5, 20, sum(range(100, 120)))


def test_a_table_ahead_by_a_torn_commit_is_refused(root: str) -> None:
    commit(root, 4).write_bytes(commit(root, 3).read_bytes()[:-20])
    with pytest.raises(TableDamaged, match=f"test.sales is damaged at version 4: {high_water.TORN}"):
        delta.count(root, SALES)


def test_a_table_without_a_record_gets_one(root: str) -> None:
    expected = high_water.held(root, SALES)
    record(root).unlink()
    assert delta.count(root, SALES) == 15
    assert high_water.held(root, SALES) == expected


def test_compaction_restore_vacuum_and_a_clean_log_are_no_damage(root: str) -> None:
    table = DeltaTable(SALES.path(root))
    amount = sum(range(100, 115))
    table.optimize.compact()
    assert (delta.count(root, SALES), high_water.held(root, SALES).amount) == (15, amount)  # type: ignore[union-attr]
    DeltaTable(SALES.path(root)).restore(2)
    assert (delta.count(root, SALES), high_water.held(root, SALES).amount) == (10, sum(range(100, 110)))  # type: ignore[union-attr]
    DeltaTable(SALES.path(root)).vacuum(0, dry_run=False, enforce_retention_duration=False)
    behind = record(root).read_bytes()
    for start in (10, 11):
        delta.append(root, SALES, sales(start, start + 1))
    DeltaTable(SALES.path(root)).create_checkpoint()
    newest = DeltaTable(SALES.path(root)).version()
    for version in range(newest):
        commit(root, version).unlink(missing_ok=True)
    assert delta.count(root, SALES) == 12
    record(root).write_bytes(behind)  # of a commit that is cleaned up
    assert delta.count(root, SALES) == 12
    assert high_water.held(root, SALES).rows == 12  # type: ignore[union-attr]
    assert look(root, SALES) == []


def test_a_missing_last_commit_is_found_behind_a_checkpoint_too(root: str) -> None:
    DeltaTable(SALES.path(root)).create_checkpoint()
    commit(root, 3).unlink()
    with pytest.raises(TableDamaged, match=high_water.MISSING):
        delta.append(root, SALES, sales(15, 16))


def torn_checkpoint(table: Table, root: str) -> Path:
    """Half of a new checkpoint of a table."""
    DeltaTable(table.path(root)).create_checkpoint()
    path = max((Path(table.path(root)) / "_delta_log").glob("*.checkpoint.parquet"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("before", [False, True], ids=["the only one", "one before it"])
def test_a_torn_checkpoint_goes_and_every_row_stays(root: str, before: bool) -> None:
    if before:
        DeltaTable(SALES.path(root)).create_checkpoint()
        delta.append(root, SALES, sales(15, 16))
        for version in range(3):
            commit(root, version).unlink()  # the checkpoint of version 3 holds what they did
    path = torn_checkpoint(SALES, root)
    with pytest.raises(TableDamaged, match=high_water.UNREADABLE):
        delta.count(root, SALES)
    (finding,) = look(root, SALES)
    assert (finding.kind, finding.symptom, finding.files) == ("checkpoint", CHECKPOINT, (f"_delta_log/{path.name}",))
    aside = mending.without(root, SALES, finding.files)
    assert {p.name for p in (Path(root) / aside).iterdir()} == {path.name, "_last_checkpoint"}
    assert look(root, SALES) == []
    assert delta.count(root, SALES) == 15 + before
    assert DeltaTable(SALES.path(root)).version() == 3 + before


def test_a_torn_checkpoint_whose_commits_were_cleaned_up_is_a_damaged_log(root: str) -> None:
    torn_checkpoint(SALES, root)
    for version in range(3):
        commit(root, version).unlink()
    (finding,) = look(root, SALES)
    assert (finding.kind, finding.symptom, finding.good) == ("log", high_water.MISSING, -1)


def test_a_table_that_cannot_be_opened_for_an_unknown_cause_is_no_finding_to_cut_on(root: str) -> None:
    delta.append(root, SALES, sales(15, 16))
    # A valid commit, and one that no reader opens: of a protocol that is not known here.
    raw = b'{"protocol":{"minReaderVersion":99,"minWriterVersion":99}}\n'
    commit(root, 5).write_bytes(raw)
    with pytest.raises(TableDamaged, match=f"{high_water.UNREADABLE}, though its commits and checkpoints can"):
        look(root, SALES)


def test_a_table_whose_repair_is_open_is_opened_by_that_repair_alone(root: str) -> None:
    mending.note(root, SALES, {"T/0": (5, 10)})
    for use in (lambda: delta.count(root, SALES), lambda: delta.append(root, SALES, sales(15, 16))):
        with pytest.raises(TableDamaged, match=rf"test\.sales is damaged: {high_water.UNFINISHED}"):
            use()
        with high_water.repaired(root, [SALES]):
            use()
    mending.done(root, SALES)
    assert delta.count(root, SALES) == 16


def test_writers_side_by_side_leave_a_record_of_the_last_commit(root: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: delta.append(root, SALES, sales(n, n + 1)), range(100, 112)))
    mark = high_water.keep_up(root, SALES)
    assert mark == high_water.held(root, SALES)
    assert mark is not None
    assert (mark.version, mark.rows) == (15, 27)
    assert mark.amount == sum(range(100, 115)) + sum(range(200, 212))


_APPEND = """
import sys
sys.path.insert(0, sys.argv[2])
from lakehouse import delta
from tests.lakehouse.test_high_water import SALES, sales
delta.append(sys.argv[1], SALES, sales(15, 20))
"""


@pytest.mark.parametrize("place", ["after-table-commit", "high-water-beside", "high-water-renamed"])
def test_a_writer_killed_at_any_step_of_the_record_leaves_a_table_that_is_read(root: str, place: str) -> None:
    command = [sys.executable, "-c", _APPEND, root, str(home())]
    done = subprocess.run(command, env={**os.environ, VARIABLE: place}, start_new_session=True, cwd=home())
    assert done.returncode == -signal.SIGKILL
    assert delta.count(root, SALES) == 20
    mark = high_water.held(root, SALES)
    assert mark is not None
    assert (mark.version, mark.rows) == (4, 20)
    delta.append(root, SALES, sales(20, 21))
    assert look(root, SALES) == []


def test_a_record_in_an_object_store_is_one_object(root: str, tmp_path: Path) -> None:
    store = fs.PyFileSystem(Objects(f"file://{tmp_path}"))
    raw = high_water.content(store, "_high_water/test.sales.json")
    assert raw is not None
    with store.open_output_stream("_high_water/test.sales.json") as out:
        out.write(raw)
    assert high_water.content(store, "_high_water/test.sales.json") == raw
    assert high_water.content(store, "_high_water/other.json") is None


def flipped(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at // 8] ^= 1 << at % 8
    path.write_bytes(bytes(raw))


HEADER_BYTES = 100
"""At most so many: a page's own header, which its checksum does not cover."""


def page(path: Path) -> tuple[int, int]:
    """[start, end) of the bits of the amounts' page, without its header."""
    with pq.ParquetFile(path) as file:
        amounts = file.metadata.row_group(0).column(file.metadata.num_columns - 1)
        return (
            8 * (amounts.data_page_offset + HEADER_BYTES),
            8 * (amounts.data_page_offset + amounts.total_compressed_size),
        )


def test_every_flipped_bit_in_the_pages_of_a_data_file_is_refused(tmp_path: Path, seed: int) -> None:
    draw, root = random.Random(seed), str(tmp_path)
    delta.append(root, SALES, [row | {"amount_minor": draw.randrange(1 << 40)} for row in sales(0, 500)])
    (path,) = data_files(root)
    raw = path.read_bytes()
    for at in draw.sample(range(*page(path)), 100):
        flipped(path, at)
        with pytest.raises(TableDamaged, match=rf"{high_water.FILE}.*CRC checksum verification failed"):
            delta.rows(root, SALES, ["offset", "amount_minor"])
        path.write_bytes(raw)


def test_look_names_a_lost_and_a_damaged_file_with_their_offsets(root: str) -> None:
    first, second, _ = sorted(data_files(root), key=lambda p: p.stat().st_mtime_ns)
    first.unlink()
    flipped(second, page(second)[1] - 20)
    found = {finding.symptom: finding for finding in look(root, SALES)}
    assert set(found) == {LOST_FILE, DAMAGED_FILE}
    assert (found[LOST_FILE].files, dict(found[LOST_FILE].offsets)) == ((first.name,), {"T/0": (0, 5)})
    assert (found[DAMAGED_FILE].files, dict(found[DAMAGED_FILE].offsets)) == ((second.name,), {"T/0": (5, 10)})


def test_a_file_that_is_cut_off_is_named_as_damage_when_the_record_has_to_catch_up(root: str) -> None:
    behind, before = record(root).read_bytes(), set(data_files(root))
    delta.append(root, SALES, sales(15, 18))
    (path,) = set(data_files(root)) - before
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    record(root).write_bytes(behind)
    with pytest.raises(TableDamaged, match=rf"test\.sales is damaged at version 4: {high_water.FILE}"):
        delta.count(root, SALES)


def test_look_names_a_record_with_other_amounts(root: str) -> None:
    wrong = orjson.loads(record(root).read_bytes()) | {"amount": 1}
    record(root).write_bytes(orjson.dumps(wrong))
    (finding,) = look(root, SALES)
    assert (finding.kind, finding.symptom) == ("record", WRONG_RECORD)
