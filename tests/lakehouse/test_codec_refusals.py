"""Bodies that are not what the schema says are refused with a fault; never a crash, never half a record."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.avro import FAULTS
from lakehouse.codec import Codec
from lakehouse.registry import Registry, Schema, registry
from tests.lakehouse.avro import KINDS, decoded, exact, faults, read, records, rows_of, written

STRICTER = {"no_such_boolean", "number_out_of_range", "no_such_union_branch", "length_out_of_range"}
"""Faults of bodies that fastavro reads; `test_where_we_are_stricter_than_fastavro` has one of each."""

PARSED = {
    "type": "record",
    "name": "sample",
    "fields": [
        {"name": "flag", "type": "boolean"},
        {"name": "small", "type": "int"},
        {"name": "large", "type": "long"},
        {"name": "text", "type": "string"},
        {"name": "maybe", "type": ["null", "string"]},
        {"name": "words", "type": {"type": "array", "items": "string"}},
    ],
}
GOOD = b"\x01\x02\x04\x04ab\x02\x02x\x02\x02q\x00"


@pytest.fixture(scope="module")
def sample() -> Schema:
    schema = Schema("sample", 1, 1, "", PARSED, Codec.of(PARSED))
    return Registry((schema,)).latest("sample")


def _fastavro(body: bytes) -> object:
    import io

    import fastavro

    stream = io.BytesIO(body)
    try:
        record = fastavro.schemaless_reader(stream, fastavro.parse_schema(PARSED), None)
    except (EOFError, IndexError, UnicodeDecodeError):
        return None
    return record if stream.tell() == len(body) else None


REFUSED = {
    "nothing": (b"", "ends_too_early"),
    "a byte lacks": (GOOD[:-1], "ends_too_early"),
    "a byte too many": (GOOD + b"\x00", "trailing_bytes"),
    "two records in one body": (GOOD + GOOD, "trailing_bytes"),
    "a third union branch": (GOOD[:6] + b"\x04" + GOOD[7:], "no_such_union_branch"),
    "text that begins with a continuation byte": (GOOD[:3] + b"\x04\x80a" + GOOD[6:], "text_not_utf8"),
    "text with half a surrogate pair": (GOOD[:3] + b"\x06\xed\xa0\x80" + GOOD[6:], "text_not_utf8"),
    "text with an overlong slash": (GOOD[:3] + b"\x04\xc0\xaf" + GOOD[6:], "text_not_utf8"),
    "text beyond Unicode": (GOOD[:3] + b"\x08\xf4\x90\x80\x80" + GOOD[6:], "text_not_utf8"),
    "text that ends inside a character": (GOOD[:3] + b"\x04a\xe2" + GOOD[6:], "text_not_utf8"),
    "a text of negative length": (GOOD[:3] + b"\x01" + GOOD[4:], "length_out_of_range"),
    "a text longer than the body": (GOOD[:3] + b"\x7eab" + GOOD[6:], "length_out_of_range"),
    "a block of 2**63 - 1 words": (GOOD[:-4] + b"\xfe" + b"\xff" * 8 + b"\x01", "length_out_of_range"),
    "a block of -2**63 words": (GOOD[:-4] + b"\xff" * 9 + b"\x01" + b"\x02", "length_out_of_range"),
    "a list without an end": (GOOD[:-1] + b"\x02\x02r", "ends_too_early"),
    "a word that is not text": (GOOD[:-2] + b"\xff\x00", "text_not_utf8"),
}


@pytest.mark.parametrize(("body", "fault"), REFUSED.values(), ids=REFUSED)
def test_a_bad_body_is_refused_by_us_and_by_fastavro(sample: Schema, body: bytes, fault: str) -> None:
    assert _fastavro(GOOD) is not None
    assert _fastavro(body) is None
    assert faults(sample, [GOOD, body, GOOD]) == ["", fault, ""]


LAX = {
    "a boolean of 2": (b"\x02" + GOOD[1:], "no_such_boolean"),
    "an int of 33 bits": (b"\x01\xfe\xff\xff\xff\x1f" + GOOD[2:], "number_out_of_range"),
    "a long of 65 bits": (GOOD[:2] + b"\xff" * 9 + b"\x03" + GOOD[3:], "number_out_of_range"),
    "a number in eleven bytes": (GOOD[:2] + b"\x80" * 10 + b"\x00" + GOOD[3:], "number_out_of_range"),
    "branch -1, the last one in Python": (GOOD[:6] + b"\x01" + GOOD[7:], "no_such_union_branch"),
    "a block of -2 bytes": (GOOD[:-4] + b"\x01\x03\x02q\x00", "length_out_of_range"),
}


@pytest.mark.parametrize(("body", "fault"), LAX.values(), ids=LAX)
def test_where_we_are_stricter_than_fastavro(sample: Schema, body: bytes, fault: str) -> None:
    """fastavro lets these pass, against the Avro specification; another reader may see other values in them."""
    assert _fastavro(body) is not None
    assert faults(sample, [GOOD, body, GOOD]) == ["", fault, ""]
    assert fault in STRICTER


SAME = {
    "a number in more bytes than it needs": (GOOD[:1] + b"\x82\x80\x00" + GOOD[2:], GOOD),
    "a block with its size": (GOOD[:-4] + b"\x01\x04\x02q\x00", GOOD),
    "two blocks": (GOOD[:-4] + b"\x02\x02q\x02\x02r\x00", GOOD[:-4] + b"\x04\x02q\x02r\x00"),
    "one block of each form": (GOOD[:-4] + b"\x02\x02q\x01\x04\x02r\x00", GOOD[:-4] + b"\x04\x02q\x02r\x00"),
}


@pytest.mark.parametrize(("body", "usual"), SAME.values(), ids=SAME)
def test_an_unusual_form_means_the_same(sample: Schema, body: bytes, usual: bytes) -> None:
    assert _fastavro(body) == _fastavro(usual)
    assert faults(sample, [body]) == [""]
    assert rows_of(sample, decoded(sample, [body]).batch) == [_fastavro(usual)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data())
def test_every_truncation_is_refused(kind: str, data: st.DataObject) -> None:
    schema = registry().latest(kind)
    body = written(schema, data.draw(records(kind)))
    found = faults(schema, [body[:end] for end in range(len(body))])
    assert set(found) <= {"ends_too_early", "length_out_of_range"}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(data=st.data())
def test_anything_behind_a_record_is_refused(kind: str, data: st.DataObject) -> None:
    schema = registry().latest(kind)
    body, other = (written(schema, data.draw(records(kind))) for _ in range(2))
    extra = data.draw(st.binary(min_size=1, max_size=9))
    assert faults(schema, [body, body + b"\x00", body + other, body + extra]) == ["", *["trailing_bytes"] * 3]


def _mutated(body: bytes, draw: random.Random) -> bytes:
    raw = bytearray(body)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at = draw.randrange(len(raw) + 1)
        match draw.randrange(4):
            case 0 if at < len(raw):
                raw[at] ^= 1 << draw.randrange(8)
            case 1 if at < len(raw):
                raw[at] = draw.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFF))
            case 2:
                raw[at:at] = draw.randbytes(draw.randrange(4))
            case _:
                del raw[at : at + draw.randrange(1, 4)]
    return bytes(raw)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_bodies_are_read_as_fastavro_reads_them_or_refused(kind: str, data: st.DataObject) -> None:
    schema = registry().latest(kind)
    draw = data.draw(st.randoms(use_true_random=False))
    body = written(schema, data.draw(records(kind)))
    bodies = [_mutated(body, draw) for _ in range(40)] + [draw.randbytes(draw.randrange(80)) for _ in range(10)]
    found = decoded(schema, bodies)
    ours = rows_of(schema, found.batch.take((found.fault == 0).nonzero()[0]))
    for one, fault in zip(bodies, found.fault.tolist(), strict=True):
        theirs = read(schema, one)
        if fault == 0:
            assert exact(theirs) == exact(ours.pop(0))
        elif theirs is not None:
            assert FAULTS[fault] in STRICTER
