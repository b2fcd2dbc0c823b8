"""Our codec writes and reads what fastavro writes and reads; the bad bodies are in test_codec_refusals.py."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.codec import Batch, Codec, Strings, slices
from lakehouse.errors import ContractBroken
from lakehouse.registry import registry
from lakehouse.texts import Texts
from tests.lakehouse.avro import KINDS, batch_of, decoded, exact, records, rows_of, written

LISTS = Codec.of({"name": "lists", "fields": [{"name": "words", "type": {"type": "array", "items": "string"}}]})


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(data=st.data())
def test_writes_bit_for_bit_what_fastavro_writes(kind: str, data: st.DataObject) -> None:
    schema = registry().latest(kind)
    rows = data.draw(st.lists(records(kind), max_size=4))
    assert slices(*schema.codec.encode(batch_of(schema, rows))) == [written(schema, row) for row in rows]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(data=st.data())
def test_reads_the_values_that_fastavro_wrote(kind: str, data: st.DataObject) -> None:
    schema = registry().latest(kind)
    rows = data.draw(st.lists(records(kind), max_size=4))
    found = decoded(schema, [written(schema, row) for row in rows])
    assert found.fault.tolist() == [0] * len(rows)
    assert exact(rows_of(schema, found.batch)) == exact([dict(row) for row in rows])


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_records_of_a_batch_do_not_run_into_each_other(kind: str) -> None:
    schema = registry().latest(kind)
    fields = {f["name"]: f["type"] for f in schema.parsed["fields"]}
    rows = []
    for i in range(10_000):
        row = {}
        for j, (name, declared) in enumerate(fields.items()):
            text = f"{name}-{i}" * (i % 3)
            if isinstance(declared, list) and (i + j) % 2:
                row[name] = None
                continue
            base = declared[1] if isinstance(declared, list) else declared
            base = base if not isinstance(base, dict) else "array" if base["type"] == "array" else base["type"]
            row[name] = {
                "string": text,
                "bytes": text.encode(),
                "array": [text] * (i % 4),
                "boolean": i % 2 == 0,
                "double": i / 7,
                "int": i - 5000,
                "long": (i - 5000) << 40,
            }[base]
        rows.append(row)
    packed, offsets = schema.codec.encode(batch_of(schema, rows), schema.prefix)
    bodies = slices(packed, offsets)
    assert [body[:5] for body in bodies] == [schema.prefix] * len(rows)
    found = schema.codec.decode(packed, offsets[:-1] + 5, offsets[1:])
    assert not found.fault.any()
    assert rows_of(schema, found.batch) == rows
    assert bodies[1234] == schema.prefix + written(schema, rows[1234])


def test_an_empty_batch_is_no_bytes() -> None:
    schema = registry().latest("payment")
    packed, offsets = schema.codec.encode(batch_of(schema, []))
    assert (packed.tolist(), offsets.tolist()) == ([], [0])
    assert decoded(schema, []).batch.rows == 0


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(data=st.data())
def test_parts_of_a_record_add_up_to_the_whole(kind: str, data: st.DataObject) -> None:
    schema = registry().latest(kind)
    rows = data.draw(st.lists(records(kind), min_size=1, max_size=3))
    names = [field.name for field in schema.codec.fields]
    cut = data.draw(st.integers(1, len(names) - 1))
    batch = batch_of(schema, rows)
    whole = slices(*schema.codec.encode(batch))
    heads = slices(*schema.codec.encode(batch, last=names[cut - 1]))
    tails = slices(*schema.codec.encode(batch, first=names[cut]))
    assert [head + tail for head, tail in zip(heads, tails, strict=True)] == whole


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("engine_start", "reasons", "shadow")])
@settings(max_examples=30)
@given(data=st.data())
def test_the_mark_is_the_byte_range_of_the_field(kind: str, data: st.DataObject) -> None:
    schema = registry().latest(kind)
    rows = data.draw(st.lists(records(kind), min_size=1, max_size=3))
    bodies = [written(schema, row) for row in rows]
    first, end = decoded(schema, bodies, mark="received_at").mark.tolist()
    alone = slices(*schema.codec.encode(batch_of(schema, rows), first="received_at", last="received_at"))
    assert [b"".join(bodies)[a:b] for a, b in zip(first, end, strict=True)] == alone


def test_a_mark_of_a_null_covers_its_branch() -> None:
    nullable = Codec.of({"name": "r", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": ["null", "int"]}]})
    found = nullable.decode(np.frombuffer(b"\x02\x00\x04\x02\x06", np.uint8), np.array([0, 2]), np.array([2, 5]), "b")
    assert found.mark.tolist() == [[1, 3], [2, 5]]


def test_lists_that_rows_share_are_written_once_a_row() -> None:
    batch = Batch(2, {"words": Strings.of([["a" * 5000, "b"], []])}, {})
    repeated = slices(*LISTS.encode(batch.take(np.array([0, 1, 0, 0, 0, 0, 0, 0]))))
    long, short = slices(*LISTS.encode(batch))
    assert repeated == [long, short, long, long, long, long, long, long]


def test_a_batch_of_some_rows_is_those_rows_in_that_order() -> None:
    schema = registry().latest("outcome")
    rows = [
        {"outcome_id": f"o{i}", "transaction_id": "t" * i, "received_at": i, "result": "approved"} for i in range(4)
    ]
    assert rows_of(schema, batch_of(schema, rows).take(np.array([3, 1]))) == [rows[3], rows[1]]


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        (["string", "null"], r'r.f: a union must be \["null", type\]\.'),
        (["null", "string", "int"], r'r.f: a union must be \["null", type\]\.'),
        ("float", "r.f: the type float is not supported."),
        ({"type": "array", "items": "int"}, "r.f: the type array is not supported."),
        (["null", {"type": "array", "items": "string"}], "r.f: the type array is not supported."),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, "r.f: the type enum is not supported."),
        ({"type": "map", "values": "string"}, "r.f: the type map is not supported."),
    ],
)
def test_a_type_that_is_not_supported_is_named(declared: object, why: str) -> None:
    with pytest.raises(ContractBroken, match=why):
        Codec.of({"name": "r", "fields": [{"name": "f", "type": declared}]})


def test_texts_of_an_arrow_array_hold_nothing_where_it_is_null() -> None:
    offsets, data = pa.py_buffer(np.array([0, 1, 4, 6], np.int32)), pa.py_buffer(b"axyzbc")
    null_over_bytes = pa.Array.from_buffers(pa.binary(), 3, [pa.py_buffer(b"\x05"), offsets, data])
    assert null_over_bytes.to_pylist() == [b"a", None, b"bc"]
    assert Texts.from_arrow(null_over_bytes).to_list() == [b"a", b"", b"bc"]
    assert Texts.from_arrow(pa.array(["a", None, "é"])[1:]).to_list() == [b"", "é".encode()]
    assert Texts.from_arrow(pa.array([], pa.binary())).to_list() == []
