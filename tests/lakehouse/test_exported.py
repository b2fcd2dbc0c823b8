"""An export is what its manifest says, or refused; its digest is of the rows, however they lie in files."""

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse import delta, exported
from lakehouse.contracts.gold import TRAINING_SET
from lakehouse.exported import ExportRefused, digest_of, in_order
from lakehouse.files import arrow_schema
from tests.filled import row


def rows(count: int) -> pa.Table:
    """Rows with nulls, NaN, empty lists and texts of different lengths."""
    found = [
        row(
            TRAINING_SET,
            offset,
            transaction_id=f"t{offset}" * (1 + offset % 3),
            is_fraud=offset % 3 == 0,
            label_source=None if offset % 2 else "chargeback",
            label_confidence=None if offset % 2 else 0.9,
            event_time=datetime(2026, 1, 1 + offset % 20, tzinfo=UTC),
            vector=[float("nan"), float(offset)] if offset % 5 else [],
        )
        for offset in range(count)
    ]
    return pa.Table.from_pylist(found, arrow_schema(TRAINING_SET))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    exported.write(folder, TRAINING_SET, rows(20), delta.PLACE, {"version": 3})
    return folder


def test_what_was_written_is_read_again_in_the_order_of_its_place(tmp_path: Path, folder: Path) -> None:
    mixed = rows(20).take([7, 3, 19, *(n for n in range(20) if n not in (7, 3, 19))])
    other = exported.write(tmp_path / "other", TRAINING_SET, mixed, delta.PLACE, {"version": 4})
    found = exported.read(folder, TRAINING_SET)
    assert found.digest == other
    assert found.about == {"version": 3}
    assert found.rows.column("offset").to_pylist() == list(range(20))
    assert found.rows.select(["transaction_id", "label_source"]) == rows(20).select(["transaction_id", "label_source"])


def test_the_digest_is_of_the_rows_and_not_of_how_they_lie_in_files(folder: Path) -> None:
    whole = in_order(rows(20), delta.PLACE)
    parts = pa.concat_tables([rows(20).slice(0, 7), rows(20).slice(7, 13)])
    assert digest_of(parts) == digest_of(whole)
    # A warehouse's own files under the same manifest, once it names them.
    manifest = orjson.loads((folder / exported.MANIFEST).read_bytes())
    for path in folder.glob("*.parquet"):
        path.unlink()
    manifest["files"] = {}
    for name, part in (("a.parquet", whole.slice(12)), ("b.parquet", whole.slice(0, 12))):
        pq.write_table(part, folder / name, compression="snappy")
        manifest["files"][name] = {"sha256": exported._sha256(folder / name), "rows": part.num_rows}
    (folder / exported.MANIFEST).write_bytes(orjson.dumps(manifest))
    assert exported.read(folder, TRAINING_SET).digest == digest_of(whole)


@pytest.mark.parametrize("column", ["is_fraud", "transaction_id", "label_source", "vector", "event_time", "offset"])
def test_another_value_is_another_digest(column: str) -> None:
    before = rows(20)
    values = before.column(column).to_pylist()
    values[4] = values[3] if column != "label_source" else None
    at = before.schema.get_field_index(column)
    after = before.set_column(at, before.schema.field(at), pa.array(values, before.schema.field(at).type))
    assert digest_of(after) != digest_of(before)


def test_a_file_that_was_changed_lost_or_added_is_refused(folder: Path) -> None:
    path = folder / "part-00000.parquet"
    good = path.read_bytes()
    path.write_bytes(good[:-9] + bytes((good[-9] ^ 1,)) + good[-8:])
    with pytest.raises(ExportRefused, match=r"part-00000\.parquet was changed: its SHA-256 is"):
        exported.read(folder, TRAINING_SET)
    path.rename(folder / "part-00001.parquet")
    with pytest.raises(ExportRefused, match=r"part-00000\.parquet is missing"):
        exported.read(folder, TRAINING_SET)
    path.write_bytes(good)
    with pytest.raises(ExportRefused, match=r"part-00001\.parquet is not in the manifest"):
        exported.read(folder, TRAINING_SET)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"digest": "0" * 64}, "have the digest"),
        ({"format": 2}, "is not of an export of gold.training_set, format 1"),
        ({"table": "gold.scores"}, "is not of an export of gold.training_set"),
        ({"schema": [["topic_id", "string", False]]}, r"has other columns \(amount_base_minor, as_of"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(folder: Path, change: dict[str, object], why: str) -> None:
    path = folder / exported.MANIFEST
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | change))
    with pytest.raises(ExportRefused, match=why):
        exported.read(folder, TRAINING_SET)


def test_a_folder_without_a_manifest_and_one_that_is_not_empty_are_refused(folder: Path) -> None:
    with pytest.raises(ExportRefused, match="is not empty"):
        exported.write(folder, TRAINING_SET, rows(2), delta.PLACE, {})
    (folder / exported.MANIFEST).write_bytes(b"{")
    with pytest.raises(ExportRefused, match=r"manifest\.json cannot be read \(JSONDecodeError\)"):
        exported.read(folder, TRAINING_SET)
    (folder / exported.MANIFEST).unlink()
    with pytest.raises(ExportRefused, match=r"manifest\.json cannot be read \(FileNotFoundError\). Export it again"):
        exported.read(folder, TRAINING_SET)
