"""What the API writes and reads record by record is what the codec writes and reads."""

import datetime as dt
import json
from dataclasses import dataclass

import pytest

from lakehouse import keys
from lakehouse.crypto import Digests
from lakehouse.registry import registry
from lakehouse.single import written
from serving.following import UNHEARD, DecisionReader, answer_records, answered, ended, reply
from serving.schemas import PaymentRequest
from simulator.playing import bodies
from tests.lakehouse.records import HOUR, T0, raw


@dataclass
class Record:
    """A Kafka message, as far as readers look at it."""

    place: int
    bytes_: bytes | None

    def value(self):
        return self.bytes_

    def offset(self):
        return self.place

    def timestamp(self):
        return 1, T0


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    keys.create(folder)
    return Digests(keys.from_file(folder))


FULL = {
    "customer_email": "a.b@example.org",
    "billing_address": "1 Main Street",
    "latitude": 48.85,
    "longitude": -2.35,
    "is_recurring": False,
    "pin_attempts": 2,
    "account_opened_on": 12_345,
    "merchant_country": "FR",
}


def encoded(request, received_at):
    return written(registry().latest("payment"), {**request.__dict__, "received_at": received_at})


@pytest.mark.parametrize("fields", [{}, FULL, {"customer_id": "Zoë 😀"}], ids=["required only", "full", "not ASCII"])
def test_a_request_becomes_the_bytes_that_the_codec_writes(fields):
    payload = raw("payment", **fields)
    request = PaymentRequest.model_validate_json(bodies([payload])[0])
    assert encoded(request, request.received_at) == payload


def test_microseconds_of_the_arrival_are_cut_off():
    payload = raw("payment", received_at=1_700_000_000_123)
    request = PaymentRequest.model_validate_json(bodies([payload])[0])
    arrival = dt.datetime.fromtimestamp(1_700_000_000, dt.UTC) + dt.timedelta(microseconds=123_999)
    assert encoded(request, arrival) == payload


def test_a_field_that_is_not_the_payments_is_refused_by_name():
    body = json.loads(bodies([raw("payment")])[0])
    with pytest.raises(ValueError, match="cvv\n"):
        PaymentRequest.model_validate_json(json.dumps({**body, "cvv": "123"}))


def test_decisions_are_read_through_the_fence():
    reader = DecisionReader()
    first = raw("decision", transaction_id="a", epoch=5, offset=40, outcome="decline", score=0.25)
    late = raw("decision", transaction_id="b", epoch=4, offset=41)
    again = raw("decision", transaction_id="a", epoch=5, offset=40)
    records = [Record(9, first), Record(10, late), Record(11, again), Record(12, None)]
    found = [reply(one) for one in reader.decisions(records)]
    assert [(r.transaction_id, r.outcome, r.score, r.offset) for r in found] == [("a", "decline", 0.25, 40)]


def test_a_rejected_payment_may_claim_a_time_that_is_no_date():
    record = raw("decision", outcome="rejected", event_time=2**62, rejected_by=["event_time_plausible"])
    found = reply(*DecisionReader().decisions([Record(0, record)]))
    assert (found.outcome, found.rejected_by) == ("rejected", ("event_time_plausible",))


def test_answers_and_ends_of_challenges_are_found_among_other_events(digests):
    answer = raw("answer", transaction_id="t9", outcome="review", reason="decision_late:static_policy")
    end = raw("outcome", transaction_id="t8", result="expired")
    records = [Record(0, raw("payment")), Record(1, end), Record(2, None), Record(3, answer), Record(4, end)]
    found = answer_records(records, digests)
    assert found == [
        (1, "t8", "outcome", "expired", ""),
        (3, "t9", "answer", "review", "decision_late:static_policy"),
        (4, "t8", "outcome", "expired", ""),
    ]
    assert answered(found) == [("t9", "review", "static_policy", b"")]
    assert ended(found) == [("t8", "expired")] * 2
    assert registry().latest("answer").prefix == answer[:5]


@pytest.mark.parametrize("kind", ["answer", "outcome"])
@pytest.mark.parametrize(
    "spoilt",
    [
        lambda kind: raw(kind)[:-3],
        lambda kind: raw(kind) + b"\0",
        lambda kind: raw(kind)[:5],
        lambda kind: raw(kind).replace(b"t1", b"\xff\xff"),
        lambda kind: raw(kind, received_at=T0 + HOUR),
        lambda kind: raw(kind, **{f"{kind}_id": ""}),
        lambda kind: raw(kind, **({"outcome": "rejected"} if kind == "answer" else {"result": "maybe"})),
    ],
)
def test_what_admission_would_refuse_is_not_heard_but_counted_and_what_follows_is(digests, kind, spoilt):
    before = UNHEARD.labels(kind)._value.get()
    found = answer_records([Record(0, spoilt(kind)), Record(1, raw(kind, transaction_id="t2"))], digests)
    assert [(word.offset, word.transaction_id) for word in found] == [(1, "t2")]
    assert UNHEARD.labels(kind)._value.get() == before + 1
