import hashlib
from pathlib import Path

import orjson
import pytest

from expectations.control import ControlEvent, InForce, Staged, Version, payload_digest
from lakehouse import signing
from lakehouse.errors import ControlRefused
from lakehouse.signing import Trust
from tests.lakehouse.records import REFERENCE, signed

MODEL = {"digest": "ab" * 32}
READY, REFUSED = Staged("ab" * 32, None), Staged("ab" * 32, "It was altered.")


@pytest.fixture(scope="module")
def keys_folder(state_folder: Path) -> Path:
    return state_folder / "keys"


@pytest.fixture(scope="module")
def trust(keys_folder: Path) -> Trust:
    return signing.trust(keys_folder)


def test_versions_of_a_scope_follow_each_other(keys_folder: Path, trust: Trust) -> None:
    in_force = InForce()
    first = signed(keys_folder)
    in_force.offer(first, trust)
    changed = {**REFERENCE, "country_risk": {}}
    second = signed(keys_folder, payload=changed, version=2, previous_digest=first.digest, control_id="c2")
    in_force.offer(second, trust)
    in_force.hear(READY)
    in_force.offer(signed(keys_folder, "model", MODEL), trust)
    assert in_force.versions == {
        "reference": Version(2, second.digest, second.payload),
        "model": Version(1, payload_digest(orjson.dumps(MODEL).decode()), orjson.dumps(MODEL).decode()),
    }
    assert in_force.reference is not None
    assert in_force.reference.version == 2
    assert in_force.model_digest == "ab" * 32


def test_the_digest_is_of_scope_version_and_digest_of_everything_in_force(keys_folder: Path, trust: Trust) -> None:
    in_force = InForce()
    assert in_force.digest == hashlib.sha256(b"[]").hexdigest()
    model, reference = signed(keys_folder, "model", MODEL), signed(keys_folder)
    in_force.offer(reference, trust)
    in_force.hear(READY)
    in_force.offer(model, trust)
    listed = f'[["model",1,"{model.digest}"],["reference",1,"{reference.digest}"]]'
    assert in_force.digest == hashlib.sha256(listed.encode()).hexdigest()


def test_what_is_restored_is_what_was_offered(keys_folder: Path, trust: Trust) -> None:
    in_force, other = InForce(), InForce()
    in_force.offer(signed(keys_folder), trust)
    in_force.hear(READY)
    in_force.offer(signed(keys_folder, "model", MODEL), trust)
    other.restore(in_force.versions, in_force.saved_entries(), in_force.staged)
    assert other.model_digest == "ab" * 32
    assert (other.digest, other.versions, other.staged) == (in_force.digest, in_force.versions, in_force.staged)
    assert other.reference is not None
    assert (other.reference.version, other.reference.base_currency) == (1, "EUR")


def test_a_model_takes_force_only_while_the_newest_word_on_it_is_that_it_is_ready(
    keys_folder: Path, trust: Trust
) -> None:
    in_force, model = InForce(), signed(keys_folder, "model", MODEL)
    refused = "model abababababab is not staged: no `staged` record before this one says that it is ready"

    def is_refused() -> bool:
        with pytest.raises(ControlRefused, match=refused):
            in_force.offer(model, trust)
        return in_force.model_digest is None

    assert is_refused()
    in_force.offer(signed(keys_folder, "staging", MODEL), trust)
    assert (is_refused(), in_force.asked) == (True, ["ab" * 32])
    in_force.hear(REFUSED)
    assert (is_refused(), in_force.asked) == (True, [])
    in_force.hear(Staged("cd" * 32, None))
    assert is_refused()
    in_force.hear(READY)
    in_force.hear(REFUSED)
    assert is_refused()
    in_force.hear(READY)
    again = {"version": 2, "previous_digest": payload_digest(orjson.dumps(MODEL).decode()), "control_id": "c2"}
    in_force.offer(signed(keys_folder, "staging", MODEL, **again), trust)  # type: ignore[arg-type]
    assert is_refused()
    in_force.hear(READY)
    in_force.offer(model, trust)
    assert in_force.model_digest == "ab" * 32


FIRST = payload_digest(orjson.dumps(REFERENCE, option=orjson.OPT_SORT_KEYS).decode())


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"scope": "everything"}, "There is no scope 'everything'"),
        ({"scope": "keys", "payload": {"token_version": 1}}, "the next one is 2, not 1"),
        ({"scope": "keys", "payload": {"token_version": 3}}, "the next one is 2, not 3"),
        ({"scope": "keys", "payload": {"token_version": True}}, "must name a version"),
        ({"scope": "keys", "payload": {"token_version": "2"}}, "must name a version"),
        ({"scope": "keys", "payload": {}}, "must have exactly the keys token_version"),
        ({}, "reference version 1 does not follow version 1"),
        ({"version": 3, "previous_digest": FIRST}, "reference version 3 does not follow version 1"),
        ({"version": 2}, "reference version 2 does not follow version 1"),
        ({"version": 2, "previous_digest": "00" * 32}, "reference version 2 does not follow version 1"),
        ({"version": 0, "previous_digest": FIRST}, "reference version 0 does not follow version 1"),
        ({"version": 2, "previous_digest": FIRST, "payload": "{"}, "is not JSON"),
        ({"version": 2, "previous_digest": FIRST, "signers": ("author", "author")}, "approved their own change"),
        (
            {"version": 2, "previous_digest": FIRST, "signers": ("approver", "author")},
            "The author's signature by approver-",
        ),
        ({"scope": "model", "payload": {"digest": "ab"}}, "must name the bundle"),
        ({"scope": "model", "payload": {"digest": "AB" * 32}}, "must name the bundle"),
        ({"scope": "model", "payload": []}, "must name the bundle"),
        ({"scope": "staging", "payload": {"digest": "ab"}}, "must name the bundle"),
        ({"scope": "model", "payload": "nothing"}, "is not JSON"),
    ],
)
def test_an_event_that_may_not_take_force_changes_nothing(
    keys_folder: Path, trust: Trust, event: dict[str, object], why: str
) -> None:
    in_force = InForce()
    in_force.offer(signed(keys_folder), trust)
    before = in_force.digest
    with pytest.raises(ControlRefused, match=why):
        in_force.offer(signed(keys_folder, **{"control_id": "c2", **event}), trust)  # type: ignore[arg-type]
    assert in_force.digest == before


@pytest.mark.parametrize(
    "change",
    [
        {"control_id": "c9"},
        {"version": 1},
        {"payload": orjson.dumps({**REFERENCE, "country_risk": {"FR": 1}}).decode()},
        {"author_signature": b""},
        {"author_signature": bytes(64)},
        {"approver_signature": b""},
        {"approver": "approver-000000000000"},
    ],
)
def test_a_change_after_signing_is_refused(keys_folder: Path, trust: Trust, change: dict[str, object]) -> None:
    event = signed(keys_folder, version=2 if "version" in change else 1)
    with pytest.raises(ControlRefused, match=r"signature by .* does not verify"):
        InForce().offer(ControlEvent(**{**event.__dict__, **change}), trust)  # type: ignore[arg-type]


def test_the_two_signatures_cannot_be_exchanged(keys_folder: Path, trust: Trust) -> None:
    event = signed(keys_folder)
    exchanged = {"author_signature": event.approver_signature, "approver_signature": event.author_signature}
    with pytest.raises(ControlRefused, match="The author's signature"):
        InForce().offer(ControlEvent(**{**event.__dict__, **exchanged}), trust)


def test_signatures_are_over_canonical_json_without_themselves() -> None:
    event = ControlEvent("c", "model", 1, "", "{}", "a", "b", b"x", b"y")
    assert event.message == (
        b'{"approver":"b","author":"a","control_id":"c","payload":"{}","previous_digest":"","scope":"model","version":1}'
    )
