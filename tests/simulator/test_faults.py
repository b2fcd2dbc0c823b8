import numpy as np
from simulated import END_MS, Log, decoded, log_of, words

from lakehouse.registry import registry, schema_ids
from lakehouse.texts import Texts
from simulator.faults import CONFLICT, DUPLICATE, FAULTS, FUTURE_MS, UNKNOWN_SCHEMA_ID
from simulator.options import Options
from simulator.records import Records
from simulator.truth import Tally

OF_EACH = 4
PAYMENT = registry().latest("payment")


def _broken(log: Log, fault: str) -> Records:
    return log.records.take(log.records.fault == FAULTS.index(fault))


def _rows_of_copies(log: Log, fault: str) -> np.ndarray:
    """Row of the payment that each repeat or conflict repeats."""
    names = decoded("payment", _broken(log, fault).payload).texts("transaction_id").to_list()
    return np.array([log.row_of[name] for name in names])


def test_each_kind_is_there_as_often_as_asked_and_the_manifest_says_so(small: Log) -> None:
    tally = Tally()
    tally.add(small.records)
    told = tally.described()
    assert told["faults"] == dict.fromkeys(sorted(FAULTS[1:]), OF_EACH)
    assert told["valid_payments"] == len(small.truth) == told["records"]["payment"] - 11 * OF_EACH
    assert told["expected"] == {
        "quarantined": {
            "amount_plausible": 4,
            "card_well_formed": 4,
            "channel_known": 4,
            "currency_known": 4,
            "event_time_plausible": 4,
            "not_in_confluent_wire_format": 4,
            "undecodable_ends_too_early": 4,
            "undecodable_trailing_bytes": 4,
            "unknown_schema_id": 4,
        },
        "duplicates": 4,
        "conflicts": 4,
    }


def test_bytes_are_broken_as_their_name_says(small: Log) -> None:
    def ids(fault: str) -> list[int]:
        texts = _broken(small, fault).payload
        return schema_ids(texts.buffer, texts.start, texts.start + texts.length).tolist()

    assert ids("wrong_magic_byte") == [-1] * OF_EACH
    assert ids("unknown_schema_id") == [UNKNOWN_SCHEMA_ID] * OF_EACH
    assert UNKNOWN_SCHEMA_ID not in registry().by_id()

    def fault(kind: str) -> list[int]:
        texts = _broken(small, kind).payload
        return PAYMENT.codec.decode(texts.buffer, texts.start + 5, texts.start + texts.length).fault.tolist()

    ends_too_early, trailing_bytes = 1, 2
    assert fault("truncated_body") == [ends_too_early] * OF_EACH
    assert fault("trailing_bytes") == [trailing_bytes] * OF_EACH


def test_values_are_broken_as_their_name_says(small: Log) -> None:
    def batch(fault: str):
        return decoded("payment", _broken(small, fault).payload)

    assert (batch("negative_amount").numbers("amount_minor") < 0).all()
    assert set(batch("unknown_currency").texts("currency").to_list()) == {b"XXQ"}
    assert set(batch("unknown_channel").texts("channel").to_list()) == {b"pigeon"}
    future = batch("future_event_time")
    assert (future.numbers("event_time") - future.numbers("received_at") == FUTURE_MS).all()
    for number in batch("invalid_card_number").texts("card_number").to_list():
        digits = [int(c) for c in number.decode()][::-1]
        assert sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 != 0


def test_broken_copies_have_ids_of_their_own(small: Log) -> None:
    for fault in ("negative_amount", "unknown_currency", "unknown_channel", "future_event_time", "invalid_card_number"):
        names = decoded("payment", _broken(small, fault).payload).texts("transaction_id").to_list()
        assert not set(names) & set(small.row_of)
        assert {len(name) for name in names} == {18}


def test_a_repeat_comes_later_and_is_otherwise_the_same(small: Log) -> None:
    again, rows = decoded("payment", _broken(small, DUPLICATE).payload), _rows_of_copies(small, DUPLICATE)
    for field in PAYMENT.codec.fields:
        then, now = small.payments.columns[field.name], again.columns[field.name]
        if field.name == "received_at":
            later = again.numbers("received_at") - small.payments.numbers("received_at")[rows]
            assert later.min() >= 5 * 60_000
            assert later.max() < 60 * 60_000
        elif isinstance(then, Texts):
            assert words(then)[rows].tolist() == words(again.texts(field.name)).tolist(), field.name
        else:
            assert (then[rows] == now).all(), field.name
        assert (small.payments.has(field.name)[rows] == again.has(field.name)).all(), field.name


def test_a_conflict_has_the_id_and_another_amount(small: Log) -> None:
    again, rows = decoded("payment", _broken(small, CONFLICT).payload), _rows_of_copies(small, CONFLICT)
    assert (again.numbers("amount_minor") - small.payments.numbers("amount_minor")[rows] == 100).all()
    assert not set(rows.tolist()) & set(_rows_of_copies(small, DUPLICATE).tolist())


def test_faults_are_spread_over_the_history_and_change_nothing_else() -> None:
    options = Options(END_MS, days=10, payments_per_day=400, seed=8, faults=3)
    log, clean = log_of(options), log_of(Options(END_MS, days=10, payments_per_day=400, seed=8))
    broken = log.records.fault > 0
    assert log.records.take(~broken).payload.to_list() == clean.records.payload.to_list()
    days = (log.records.received_ms[broken] - options.start_ms) / 86_400_000
    assert np.unique(days.astype(int)).size >= 9
    assert days.min() > 0.1
    assert days.max() < 9.95
