from pathlib import Path

import pytest

from expectations.admission import ACCEPTED, DUPLICATE, QUARANTINED, Admission
from expectations.control import ControlEvent
from lakehouse import signing
from lakehouse.signing import Trust
from tests.expectations.worlds import Judgement, Record, columns, fresh, judgements, state
from tests.lakehouse.records import HOUR, REFERENCE, T0, signed


@pytest.fixture(scope="module")
def keys_folder(state_folder: Path) -> Path:
    return state_folder / "keys"


@pytest.fixture(scope="module")
def trust(keys_folder: Path) -> Trust:
    return signing.trust(keys_folder)


@pytest.fixture(scope="module")
def reference(keys_folder: Path) -> ControlEvent:
    return signed(keys_folder)


@pytest.fixture
def admission(trust: Trust, reference: ControlEvent) -> Admission:
    """Admission with reference tables in force; its first record had offset 0 and came an hour before T0."""
    made = fresh(trust)
    first = [Record("c1", -1, kind="control", event=reference)]
    assert judgements(made.admit(columns(first)), first) == [Judgement(ACCEPTED, clock_ms=T0 - HOUR)]
    return made


def _judged(admission: Admission, *log: Record, first: int = 1) -> list[Judgement]:
    return judgements(admission.admit(columns(log, first)), log)


def _accepted(at_h: float, base: int = 100, version: int = 1) -> Judgement:
    return Judgement(ACCEPTED, clock_ms=T0 + round(at_h * HOUR), amount_base=base, version=version)


def _clock(at_h: float) -> Judgement:
    return Judgement(ACCEPTED, clock_ms=T0 + round(at_h * HOUR))


def test_a_repeat_within_the_horizon_is_a_duplicate_of_the_accepted_record(admission: Admission) -> None:
    assert _judged(admission, Record("t1", 0), Record("t2", 1), Record("t1", 2), Record("t1", 47.999)) == [
        *(_accepted(0), _accepted(1), Judgement(DUPLICATE, first_offset=1), Judgement(DUPLICATE, first_offset=1))
    ]


def test_a_repeat_at_the_end_of_the_horizon_is_a_new_record(admission: Admission) -> None:
    assert _judged(admission, Record("t1", 0), Record("t1", 48), Record("t1", 49), Record("t1", 96.5)) == [
        *(_accepted(0), _accepted(48), Judgement(DUPLICATE, first_offset=2), _accepted(96.5))
    ]


def test_the_horizon_is_measured_on_the_engines_clock(admission: Admission) -> None:
    late_repeat = Record("t1", 0)
    assert _judged(admission, Record("t1", 0), Record("t2", 48), late_repeat) == [
        *(_accepted(0), _accepted(48), _accepted(48))
    ]


def test_an_id_with_other_content_is_a_conflict_with_the_accepted_record(admission: Admission) -> None:
    verdicts = admission.admit(columns([Record("t1", 0), Record("t1", 1, content=9), Record("t1", 2)], 1))
    assert judgements(verdicts, [Record("t1")] * 3) == [
        *(_accepted(0), Judgement(QUARANTINED, "conflict", 1), Judgement(DUPLICATE, first_offset=1))
    ]
    assert verdicts.first_content.tolist() == [[0, 0], [0, 7], [0, 7]]


def test_only_accepted_records_move_the_clock(admission: Admission) -> None:
    assert _judged(
        admission,
        Record("t1", 0),
        Record("t1", 5),
        Record("t1", 6, content=9),
        Record("t2", 7, sound=False),
        Record("t3", 8, currency="GBP"),
        Record("c1", 9, kind="control", content=9),
        Record("t4", 1),
    ) == [
        _accepted(0),
        Judgement(DUPLICATE, first_offset=1),
        Judgement(QUARANTINED, "conflict", 1),
        Judgement(QUARANTINED, "broken"),
        Judgement(QUARANTINED, "currency_without_rate"),
        Judgement(QUARANTINED, "conflict", 0),
        _accepted(1),
    ]


def test_a_duplicate_that_came_late_does_not_prolong_the_horizon(admission: Admission) -> None:
    assert _judged(admission, Record("t1", 0), Record("t1", 47), Record("t1", 48)) == [
        *(_accepted(0), Judgement(DUPLICATE, first_offset=1), _accepted(48))
    ]


def test_a_late_record_is_accepted_at_the_clock_that_was_reached(admission: Admission) -> None:
    assert _judged(admission, Record("t1", 10), Record("t2", 3)) == [_accepted(10), _accepted(10)]


def test_kinds_have_ids_of_their_own(admission: Admission) -> None:
    kinds = ("payment", "authorisation", "label", "answer", "outcome", "erasure", "staged")
    log = [Record("x", 0, kind=kind, content=i) for i, kind in enumerate(kinds)]
    assert [j.status for j in _judged(admission, *log)] == [ACCEPTED] * len(kinds)
    assert [j.status for j in _judged(admission, *log, first=8)] == [DUPLICATE] * len(kinds)


def test_a_label_is_unique_for_400_days(admission: Admission) -> None:
    log = [Record("l1", 0, kind="label"), Record("l1", 24 * 399, kind="label"), Record("l1", 24 * 400, kind="label")]
    assert _judged(admission, *log) == [_accepted(0), Judgement(DUPLICATE, first_offset=1), _accepted(24 * 400)]


def test_amounts_are_converted_by_the_tables_in_force(admission: Admission) -> None:
    assert _judged(
        admission,
        Record("t1", 0, amount=1000, currency="USD"),
        Record("t2", 0, amount=1000, currency="JPY"),
        Record("l1", 0, amount=1000, currency="USD", kind="label"),
    ) == [_accepted(0, 862), _accepted(0, 620), _accepted(0, 862)]


def test_payments_and_labels_before_the_first_tables_are_refused_and_nothing_else(trust: Trust) -> None:
    admission = fresh(trust)
    assert _judged(
        admission,
        Record("t1", 0),
        Record("l1", 0, kind="label"),
        Record("t1", 1, kind="authorisation"),
        Record("t1", 2, sound=False),
    ) == [
        Judgement(QUARANTINED, "no_reference_in_force"),
        Judgement(QUARANTINED, "no_reference_in_force"),
        _clock(1),
        Judgement(QUARANTINED, "broken"),
    ]


def test_new_tables_hold_from_the_next_record_on(
    admission: Admission, keys_folder: Path, reference: ControlEvent
) -> None:
    tables = {**REFERENCE, "rates_micro": {"EUR": 1_000_000, "USD": 900_000}}
    second = signed(keys_folder, payload=tables, version=2, previous_digest=reference.digest, control_id="c2")
    assert _judged(
        admission,
        Record("t1", 0, currency="USD"),
        Record("t2", 0, currency="JPY"),
        Record("c2", 1, kind="control", event=second),
        Record("t3", 1, currency="USD"),
        Record("t4", 1, currency="JPY"),
        Record("t1", 2, currency="USD"),
    ) == [
        _accepted(0, 86),
        _accepted(0, 62),
        _clock(1),
        _accepted(1, 90, version=2),
        Judgement(QUARANTINED, "currency_without_rate"),
        Judgement(DUPLICATE, first_offset=1),
    ]


def test_a_control_event_that_may_not_take_force_is_refused_with_the_reason(
    admission: Admission, keys_folder: Path, reference: ControlEvent
) -> None:
    def event(control_id: str, **how: object) -> Record:
        made = signed(
            keys_folder,
            **{"version": 2, "previous_digest": reference.digest, "control_id": control_id, **how},  # type: ignore[arg-type]
        )
        return Record(control_id, 1, kind="control", event=made)

    before = state(admission)
    refused = _judged(
        admission,
        event("c2", author_signature=b""),
        event("c3", signers=("author", "author")),
        event("c4", version=3),
        event("c5", previous_digest="00" * 32),
        event("c6", payload={}),
    )
    assert [j.status for j in refused] == [QUARANTINED] * 5
    assert [j.reason.split(":")[0] for j in refused] == ["control_refused"] * 5
    for judgement, word in zip(
        refused, ("signature", "own change", "version 3", "follow", "exactly the keys"), strict=True
    ):
        assert word in judgement.reason
    assert state(admission) == before
    assert _judged(admission, event("c2"), first=6) == [_clock(1)]


def test_a_repeated_control_event_is_a_duplicate_and_not_another_version(
    admission: Admission, reference: ControlEvent
) -> None:
    before = state(admission)
    assert _judged(admission, Record("c1", 1, kind="control", event=reference)) == [
        Judgement(DUPLICATE, first_offset=0)
    ]
    assert state(admission) == before


def test_a_control_event_that_is_repeated_after_the_horizon_is_out_of_order(
    admission: Admission, reference: ControlEvent
) -> None:
    assert _judged(admission, Record("c1", 48, kind="control", event=reference)) == [
        Judgement(QUARANTINED, "control_refused: reference version 1 does not follow version 1.")
    ]


def test_a_control_event_that_breaks_a_rule_takes_no_force(trust: Trust, reference: ControlEvent) -> None:
    admission = fresh(trust)
    assert _judged(admission, Record("c1", 0, kind="control", event=reference, sound=False)) == [
        Judgement(QUARANTINED, "broken")
    ]
    assert admission.in_force.reference is None


def test_an_empty_batch_changes_nothing(admission: Admission) -> None:
    before = state(admission)
    assert _judged(admission) == []
    assert state(admission) == before


def test_ids_are_forgotten_when_their_horizon_is_over(admission: Admission) -> None:
    for day in range(40):
        log = [Record(f"{day}-{i}", 24 * day + i / 1000) for i in range(500)]
        assert {j.status for j in _judged(admission, *log, first=1 + day * 500)} == {ACCEPTED}
    assert len(admission.seen) == 8192
