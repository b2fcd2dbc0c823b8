"""Equal rows have equal digests, however they are held; others have others."""

import hashlib
import hmac

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from audit import digests, keys
from lakehouse.crypto import Digests
from lakehouse.keys import Keyring

TEXTS = st.lists(st.none() | st.text(max_size=40), min_size=1, max_size=20)
FLOATS = st.lists(st.floats(width=32, allow_nan=False) | st.none(), min_size=1, max_size=12)


@given(TEXTS)
def test_texts_are_the_same_only_where_they_are_the_same_bytes(values):
    found = digests.values(pa.array(values, pa.string()))
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            assert (found[i] == found[j]) == (one == other), (one, other)


@given(TEXTS, st.data())
def test_a_slice_a_wide_type_and_bytes_give_the_same_digests(values, data):
    column = pa.array(values, pa.string())
    start = data.draw(st.integers(0, len(values) - 1))
    expected = digests.values(column)[start:]
    for same in (column.slice(start), column.cast(pa.large_string()).slice(start), column.cast(pa.binary())[start:]):
        assert digests.values(same).tolist() == expected.tolist()
    assert digests.values(column.dictionary_encode())[start:].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1, None, -5], pa.int32()), pa.array([1, None, -5], pa.int64())),
        (pa.array([1000, 2000], pa.timestamp("ms", "UTC")), pa.array([1_000_000, 2_000_000], pa.timestamp("us"))),
        (pa.array([0.5, float("nan")]), pa.array([0.5, None])),
        (pa.array([["a", "b"], []]), pa.array([["a", "b"], []], pa.large_list(pa.large_string()))),
    ],
)
def test_the_width_of_a_type_does_not_matter(one, other):
    assert digests.values(one).tolist() == digests.values(other).tolist()


def test_columns_and_lists_have_an_order():
    one, other = pa.array([1, 2]), pa.array([2, 1])
    assert digests.rows([one, other], 2)[0] != digests.rows([one, other], 2)[1]
    lists = pa.array([["a", "b"], ["b", "a"], ["a"], ["ab"], [], None])
    assert len(set(digests.values(lists).tolist())) == 6


@given(st.lists(FLOATS, min_size=1, max_size=6).map(lambda rows: [(r * 12)[:12] for r in rows]))
def test_a_vector_is_the_same_as_a_list_as_bytes_and_as_columns(rows):
    lists = pa.array(rows, pa.list_(pa.float32()))
    columns = [pa.array([row[i] for row in rows], pa.float32()) for i in range(12)]
    raw = [np.array([np.nan if v is None else v for v in row], "<f4").tobytes() for row in rows]
    expected = digests.matrix(columns).tolist()
    assert digests.vectors(lists).tolist() == expected
    assert digests.vectors(pa.array(raw, pa.binary())).tolist() == expected
    assert digests.vectors(pa.array([[], *rows, None, rows[0][:3]], pa.list_(pa.float32())))[1:-2].tolist() == expected


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=12), st.data())
def test_another_value_or_order_is_another_vector(row, data):
    i, j = data.draw(st.lists(st.integers(0, len(row) - 1), min_size=2, max_size=2, unique=True))
    swapped, altered = list(row), list(row)
    swapped[i], swapped[j] = row[j], row[i]
    altered[i] = float(np.nextafter(np.float32(row[i]), np.float32(0 if row[i] else 1)))
    found = digests.vectors(pa.array([row, altered, swapped], pa.list_(pa.float32())))
    bits = [np.array(values, np.float32).tobytes() for values in (row, altered, swapped)]
    for other in (1, 2):
        assert (found[0] == found[other]) == (bits[0] == bits[other])


def test_positions_are_bound():
    content = digests.values(pa.array(["a", "b"]))
    here, there = (digests.bound(content, np.array(at)) for at in ([1, 2], [2, 1]))
    assert not set(here.tolist()) & set(there.tolist())


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_payload_digests_are_those_of_the_lake(value, master):
    expected = Digests(Keyring({1: master})).payload(value)
    key = keys.derived(master)
    assert key == HKDF(hashes.SHA256(), 32, salt=b"fraudlake", info=b"digest|payload|v1").derive(master)
    assert keys.payload_digests(key, [value]).to_pylist() == [expected]
    assert expected == hmac.new(key, value, hashlib.sha256).digest()[:16]
