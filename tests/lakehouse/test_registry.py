import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lakehouse.errors import SchemaRefused
from lakehouse.registry import FOLDER, forbidden_fields, incompatible, load, register, registry, schema_ids
from lakehouse.texts import Texts

IDS = {
    "answer": 1,
    "authorisation": 2,
    "control": 3,
    "decision": 4,
    "engine_start": 5,
    "erasure": 6,
    "label": 7,
    "outcome": 8,
    "payment": 9,
    "reasons": 13,
    "shadow": 14,
    "staged": 10,
}


def _schema(*fields: dict[str, Any], name: str = "thing") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


ID = {"name": "thing_id", "type": "string"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "thing.v1.avsc").write_text(json.dumps(_schema(ID)))
    assert register(tmp_path) == ["thing.v1.avsc"]
    return tmp_path


def test_an_id_once_given_stays() -> None:
    assert {s.kind: s.id for s in registry().schemas if s.version == 1} == IDS


def test_the_prefix_is_confluents() -> None:
    assert registry().latest("payment").prefix == b"\x00\x00\x00\x00\x09"


def test_no_registered_schema_names_forbidden_card_data() -> None:
    assert [forbidden_fields(schema.parsed) for schema in registry().schemas] == [[]] * len(registry().schemas)


def test_registering_again_changes_nothing(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(FOLDER, tmp_path / "schemas"))
    before = (copy / "registry.json").read_text()
    assert register(copy) == []
    assert (copy / "registry.json").read_text() == before


def test_a_changed_file_is_refused(folder: Path) -> None:
    (folder / "thing.v1.avsc").write_text(json.dumps(_schema(ID, {"name": "more", "type": "int", "default": 0})))
    with pytest.raises(SchemaRefused, match=r"thing\.v1\.avsc was changed after it was registered as id 1"):
        load(folder)


def test_a_changed_file_is_refused_before_another_version_is_registered_on_top(folder: Path) -> None:
    changed = _schema(ID, {"name": "more", "type": "int", "default": 0})
    (folder / "thing.v1.avsc").write_text(json.dumps(changed))
    (folder / "thing.v2.avsc").write_text(json.dumps(changed))
    with pytest.raises(SchemaRefused, match=r"thing\.v1\.avsc was changed"):
        register(folder)
    assert [e["version"] for e in json.loads((folder / "registry.json").read_text())] == [1]


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "thing.v1.avsc").unlink()
    with pytest.raises(SchemaRefused, match=r"thing\.v1\.avsc is registered but missing"):
        load(folder)


def test_a_new_version_gets_the_next_id_and_is_the_latest(folder: Path) -> None:
    (folder / "thing.v2.avsc").write_text(json.dumps(_schema(ID, {"name": "more", "type": "int", "default": 0})))
    (folder / "other.v1.avsc").write_text(json.dumps(_schema({"name": "other_id", "type": "string"}, name="other")))
    assert register(folder) == ["other.v1.avsc", "thing.v2.avsc"]
    found = load(folder)
    assert [(s.kind, s.version, s.id) for s in found.schemas] == [("thing", 1, 1), ("other", 1, 2), ("thing", 2, 3)]
    assert found.latest("thing").id == 3
    with pytest.raises(KeyError, match="nothing"):
        found.latest("nothing")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([ID, {"name": "more", "type": "int"}], "more is new and has no default"),
        ([{"name": "thing_id", "type": "int"}], 'thing_id changed from "string" to "int"'),
    ],
)
def test_a_version_that_cannot_read_the_last_one_is_refused(folder: Path, fields: list[Any], why: str) -> None:
    (folder / "thing.v2.avsc").write_text(json.dumps(_schema(*fields)))
    with pytest.raises(SchemaRefused, match=f"thing.v2.avsc cannot read what v1 wrote: {why}"):
        register(folder)


def test_a_version_without_the_one_before_is_refused(folder: Path) -> None:
    (folder / "thing.v3.avsc").write_text(json.dumps(_schema(ID)))
    with pytest.raises(SchemaRefused, match=r"thing\.v3\.avsc has no thing\.v2\.avsc before it"):
        register(folder)


@pytest.mark.parametrize(
    ("new", "reasons"),
    [
        ([ID], []),
        ([], []),
        ([{"name": "thing_id", "type": ["null", "string"]}], []),
        ([ID, {"name": "more", "type": ["null", "int"], "default": None}], []),
        ([{"name": "thing_id", "type": ["null", "int"]}], ['thing_id changed from "string" to ["null", "int"]']),
    ],
)
def test_what_can_read_the_version_before(new: list[Any], reasons: list[str]) -> None:
    assert incompatible(_schema(*new), _schema(ID)) == reasons


def test_what_could_be_null_may_not_become_required() -> None:
    nullable = {"name": "thing_id", "type": ["null", "string"]}
    assert incompatible(_schema(ID), _schema(nullable)) == ['thing_id changed from ["null", "string"] to "string"']


@pytest.mark.parametrize(
    "name",
    [
        *(
            "cvv",
            "CVV",
            "cvv2",
            "card_cvv",
            "cardCvv",
            "cardCVV",
            "CVVCode",
            "cvc",
            "cvc2",
            "cvv_hash",
            "cvv_result_raw",
        ),
        *(
            "pin",
            "pin_block",
            "pinBlock",
            "PINBlock",
            "encrypted_pin_block",
            "track",
            "track_data",
            "track2",
            "track1Data",
        ),
    ],
)
def test_a_field_of_forbidden_card_data_is_refused(tmp_path: Path, name: str) -> None:
    schema = _schema(ID, {"name": name, "type": "string"})
    assert forbidden_fields(schema) == [name]
    (tmp_path / "thing.v1.avsc").write_text(json.dumps(schema))
    with pytest.raises(SchemaRefused, match=rf"thing\.v1\.avsc: {name} may never be stored"):
        register(tmp_path)
    assert not (tmp_path / "registry.json").exists()


@pytest.mark.parametrize(
    "name", ["cvv_result", "cvvResult", "pin_attempts", "pinAttempts", "shipping", "pinned", "tracking_number", "cv"]
)
def test_results_and_counts_of_checks_are_allowed(name: str) -> None:
    assert forbidden_fields(_schema({"name": name, "type": "string"})) == []


def test_the_schema_id_stands_behind_a_zero_byte() -> None:
    records = [
        *(b"", b"\x00", b"\x00\x00\x00\x00", b"\x00\x00\x00\x00\x09", b"\x00\x00\x00\x00\x09abc"),
        *(b"\x01\x00\x00\x00\x09abc", b"\x00\x01\x02\x03\x04", b"\x00\xff\xff\xff\xff", b"{}"),
    ]
    texts = Texts.of(records)
    found = schema_ids(texts.buffer, texts.start, texts.start + texts.length)
    assert found.tolist() == [-1, -1, -1, 9, 9, -1, 0x01020304, 0xFFFFFFFF, -1]


def test_records_shorter_than_a_prefix_have_no_schema_id() -> None:
    texts = Texts.of([b"", b"\x00\x00"])
    assert schema_ids(texts.buffer, texts.start, texts.start + texts.length).tolist() == [-1, -1]
    assert schema_ids(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
