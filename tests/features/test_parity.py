"""A comparison of vectors names every value that differs and every payment that one side lacks."""

import numpy as np
import pyarrow as pa

from features.catalogue import NAMES
from features.parity import Report, Vectors, compared, told
from lakehouse.spans import Span

WIDTH = len(NAMES)


def vectors(*rows):
    """Vectors of (offset, {feature: value}), all else missing."""
    matrix = np.full((len(rows), WIDTH), np.nan, np.float32)
    for row, (_, values) in enumerate(rows):
        for name, value in values.items():
            matrix[row, NAMES.index(name)] = value
    return Vectors(np.array([offset for offset, _ in rows], np.int64), matrix.view(np.uint32))


def test_equal_vectors_have_no_mismatch_and_missing_equals_missing():
    found = compared(vectors((3, {"amount_minor": 7}), (9, {})), vectors((3, {"amount_minor": 7}), (9, {})))
    assert found == Report(2, [], [], {})
    assert (found.mismatches, found.described()) == (0, [f"2 payments x {WIDTH} features: 0 mismatches"])


def test_one_bit_is_a_mismatch_and_so_is_a_zero_for_a_missing_value():
    one = vectors((3, {"amount_minor": 1.0}), (4, {"card_tx_count_1h": 0.0}), (5, {"amount_minor": 0.0}))
    other = vectors(
        (3, {"amount_minor": np.nextafter(np.float32(1), np.float32(2))}), (4, {}), (5, {"amount_minor": -0.0})
    )
    found = compared(one, other)
    assert found.differing == {"amount_minor": (2, 3), "card_tx_count_1h": (1, 4)}
    assert found.mismatches == 3
    assert found.described()[1] == "  amount_minor: 2 payments differ, the first at offset 3"


def test_a_payment_that_one_side_lacks_differs_in_every_value():
    found = compared(vectors((3, {}), (7, {})), vectors((3, {}), (8, {}), (9, {})))
    assert (found.payments, found.only_engine, found.only_lake) == (1, [7], [8, 9])
    assert found.mismatches == 3 * WIDTH
    assert found.described()[1:] == [
        "  only the engine has 1 payments, the first at offset 7",
        "  only silver has 2 payments, the first at offset 8",
    ]


def test_payments_whose_decisions_were_written_off_are_left_out_where_the_engine_lacks_them():
    engine, lake = vectors((3, {}), (5, {})), vectors((3, {}), (4, {}), (5, {}), (6, {}))
    assert told(engine, lake, [Span("T", 0, 4, 6)]).offset.tolist() == [3, 5, 6]
    assert told(engine, lake, []).offset.tolist() == [3, 4, 5, 6]


def test_bytes_and_lists_in_any_order_are_the_same_vectors():
    rows = np.arange(2 * WIDTH, dtype=np.float32).reshape(2, WIDTH)
    offset = pa.chunked_array([[9], [3]])
    as_bytes = Vectors.of(offset, pa.chunked_array([[rows[0].tobytes()], [rows[1].tobytes()]]))
    as_lists = Vectors.of(offset, pa.chunked_array([[rows[0]], [rows[1]]], pa.list_(pa.float32())))
    assert as_bytes.offset.tolist() == as_lists.offset.tolist() == [3, 9]
    assert (as_bytes.bits == as_lists.bits).all()
    assert (as_bytes.bits[0] == rows[1].view(np.uint32)).all()
