"""No card number or id of a person is in the clear: not in lake, keys, state, logs or MLflow; only on Kafka's log."""

import re
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse import settings as conf
from lakehouse.registry import registry, schema_ids
from lakehouse.texts import Texts

DIGITS = re.compile(rb"\d{12,}")
IDS = re.compile(rb"[a-z]-[0-9a-f]{16}")
"""How the simulator writes ids of customers and devices."""


def cards_in(raw, known):
    """Known card numbers and ids in bytes."""
    found = set(IDS.findall(raw))
    for run in DIGITS.findall(raw):
        for length in range(12, 20):
            found.update(run[i : i + length] for i in range(len(run) - length + 1))
    return found & known


def contents(path):
    """What a file holds, compressed columns and database pages opened."""
    raw = path.read_bytes()
    yield raw
    if raw[:4] == b"PAR1":
        table = pq.read_table(path)
        for column in table.columns:
            kind = column.type.value_type if pa.types.is_list(column.type) else column.type
            if pa.types.is_string(kind) or pa.types.is_binary(kind):
                yield "\n".join(str(value) for value in column.to_pylist() if value is not None).encode()
    if raw[:15] == b"SQLite format 3":
        with sqlite3.connect(path) as database:
            yield "\n".join(database.iterdump()).encode()


def leaks(folders, known, spared):
    """(file, card numbers) of every file below the folders that shows one."""
    found = []
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            if not path.is_relative_to(spared):
                cards = set().union(*(cards_in(raw, known) for raw in contents(path)))
                found += [(str(path), cards)] if cards else []
    return found


@pytest.fixture(scope="module")
def known(history):
    """Card numbers, customers and devices of everything sent."""
    schema = registry().latest("payment")
    texts = Texts.of(history.sent)
    end = texts.start + texts.length
    rows = np.flatnonzero(schema_ids(texts.buffer, texts.start, end) == schema.id)
    decoded = schema.codec.decode(texts.buffer, texts.start[rows] + len(schema.prefix), end[rows])
    found = {b"4000000000000002"}
    for name in ("card_number", "customer_id", "device_id"):
        sent = decoded.batch.texts(name).to_list()
        found |= {value for value, fault in zip(sent, decoded.fault, strict=True) if fault == 0 and value}
    return found


def test_the_search_finds_a_card_number_wherever_it_hides(tmp_path):
    card = "4000000000000002"
    (tmp_path / "a.log").write_text(f"refused 9{card}1")
    pq.write_table(pa.table({"note": [f"card {card}"] * 3}), tmp_path / "b.parquet", compression="zstd")
    (tmp_path / "d.log").write_text("customer=c-0123456789abcdef,")
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "c.log").write_text(card)
    found = leaks([tmp_path], {card.encode(), b"c-0123456789abcdef"}, tmp_path / "kafka")
    assert [Path(path).name for path, _ in found] == ["a.log", "b.parquet", "d.log"]


def test_no_file_shows_a_card_number_or_an_id(history, engine, api, known, state_folder, tmp_path_factory):
    assert min(len({value for value in known if value[:2] == kind}) for kind in (b"c-", b"d-")) > 50
    assert len({value for value in known if value.isdigit()}) > 100
    assert (state_folder / "keys" / "data_keys.sqlite").stat().st_size > 50_000
    made = Path(tmp_path_factory.getbasetemp())
    folders = [state_folder, *(folder for name in ("world", "engine", "api") for folder in made.glob(f"{name}*"))]
    for place in (history.settings.lake.root, history.settings.engine.state_folder, history.settings.models.store):
        assert any(conf.resolve(place).is_relative_to(folder) for folder in folders)
    assert engine.log.parent in folders
    assert leaks(folders, known, state_folder / "services" / "kafka") == []
