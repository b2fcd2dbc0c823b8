"""However a log is cut into batches, the verdicts and the state are those of the contract read record by record."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations.admission import Admission
from expectations.control import ControlEvent
from lakehouse import signing
from lakehouse.signing import Trust
from lakehouse.topics import EVENT_KINDS
from tests.expectations.worlds import MODEL, Model, Record, columns, fresh, judgements, state
from tests.lakehouse.records import REFERENCE, signed

TABLES = [
    REFERENCE,
    {**REFERENCE, "rates_micro": {"EUR": 1_000_000, "USD": 900_000}},
    {**REFERENCE, "country_risk": {}},
]


@pytest.fixture(scope="module")
def trust(state_folder: Path) -> Trust:
    return signing.trust(state_folder / "keys")


@pytest.fixture(scope="module")
def chain(state_folder: Path) -> list[ControlEvent]:
    """Tables, requests to stage and models that follow each other; one without a signature, one skips a version."""
    folder, events, digest = state_folder / "keys", [], ""
    for version, payload in enumerate(TABLES, 1):
        events.append(
            signed(folder, payload=payload, version=version, previous_digest=digest, control_id=f"c{version}")
        )
        digest = events[-1].digest
    for scope in ("staging", "model"):
        digest = ""
        for version in (1, 2):
            changes = {"version": version, "previous_digest": digest, "control_id": f"{scope}{version}"}
            events.append(signed(folder, scope, MODEL, **changes))
            digest = events[-1].digest
    return [
        *events,
        signed(folder, control_id="c4", author_signature=b""),
        signed(folder, control_id="c5", version=7, previous_digest=events[2].digest),
    ]


@st.composite
def logs(draw: st.DrawFn, chain: list[ControlEvent]) -> list[Record]:
    """Few ids, so that they meet; times that run on, jump over the horizon and back; now and then a control event."""
    log, hours = [], 0.0
    for _ in range(draw(st.integers(0, 40))):
        hours += draw(st.sampled_from((0, 0, 0.1, 1, 30, 48, 49, -5, -60)))
        if draw(st.integers(0, 5)) == 0:
            number = draw(st.integers(0, len(chain) - 1))
            sound = draw(st.integers(0, 5)) > 0
            log.append(Record(chain[number].control_id, hours, number, "control", sound, event=chain[number]))
            continue
        log.append(
            Record(
                identity=draw(st.sampled_from("abc")),
                at_h=hours,
                content=draw(st.sampled_from((0, 0, 0, 1))),
                kind=draw(st.sampled_from([kind for kind in EVENT_KINDS if kind != "control"])),
                sound=draw(st.integers(0, 5)) > 0,
                amount=draw(st.integers(0, 10**11)),
                currency=draw(st.sampled_from(("EUR", "USD", "JPY", "GBP"))),
            )
        )
    return log


@settings(max_examples=150)
@given(data=st.data())
def test_verdicts_and_state_do_not_depend_on_how_the_log_is_cut(
    trust: Trust, chain: list[ControlEvent], data: st.DataObject
) -> None:
    log = data.draw(logs(chain))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=5)))
    at_once, one_by_one, in_parts, model = fresh(trust), fresh(trust), fresh(trust), Model(trust)
    expected = [model.judge(offset, record) for offset, record in enumerate(log)]

    assert judgements(at_once.admit(columns(log)), log) == expected
    assert [
        *(j for at, record in enumerate(log) for j in judgements(one_by_one.admit(columns([record], at)), [record]))
    ] == expected
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        found += judgements(in_parts.admit(columns(log[start:end], start)), log[start:end])
    assert found == expected
    assert state(at_once) == state(one_by_one) == state(in_parts)
    assert at_once.clock == model.clock


@settings(max_examples=50)
@given(data=st.data())
def test_what_is_remembered_judges_as_what_was_seen(
    trust: Trust, chain: list[ControlEvent], data: st.DataObject
) -> None:
    log = data.draw(logs(chain))
    cut = data.draw(st.integers(0, len(log)))
    seen = fresh(trust)
    head, tail = columns(log[:cut]), columns(log[cut:], cut)
    verdicts = seen.admit(head)

    told: Admission = fresh(trust)
    accepted = np.flatnonzero(verdicts.status == 0)
    told.remember(
        head.kind[accepted],
        head.identity[accepted],
        head.content[accepted],
        verdicts.engine_clock[accepted],
        head.offset[accepted],
    )
    told.in_force.restore(seen.in_force.versions, seen.in_force.saved_entries(), seen.in_force.staged)
    assert state(told) == state(seen)
    assert judgements(told.admit(tail), log[cut:]) == judgements(seen.admit(tail), log[cut:])
    assert state(told) == state(seen)
