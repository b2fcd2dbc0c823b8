"""Lists and suppressions: deltas that fold to the same entries from the log, from silver and from a snapshot."""

import time

import orjson
import pytest

from expectations.control import InForce
from expectations.split import Split, split_of
from lakehouse import signing
from lakehouse.errors import ControlRefused
from tests.lakehouse.records import signed


def token(number):
    return f"v1:{number:024d}"


def entry(number, expires_at=None, name="block"):
    return {"list": name, "kind": "card", "token": token(number), "reason": "test", "expires_at": expires_at}


def delta(add=(), remove=()):
    return orjson.dumps({"add": list(add), "remove": list(remove)}).decode()


@pytest.fixture(scope="module")
def folder(state_folder):
    return state_folder / "keys"


@pytest.fixture(scope="module")
def trust(folder):
    return signing.trust(folder)


def chain(folder, scope, *payloads):
    """Events of a scope, each after the one before."""
    events, before = [], ""
    for version, payload in enumerate(payloads, 1):
        events.append(signed(folder, scope, payload, version, before, control_id=f"c{version}"))
        before = events[-1].digest
    return events


def offered(events, trust):
    in_force = InForce()
    for event in events:
        in_force.offer(event, trust)
    return in_force


def rows(events):
    names = ("scope", "version", "previous_digest", "payload")
    return [{name: getattr(event, name) for name in names} for event in events]


def test_deltas_fold_to_the_same_from_the_log_from_silver_and_from_a_snapshot(folder, trust):
    gone = {"list": "block", "kind": "card", "token": token(1)}
    deltas = [delta([entry(1), entry(2, 500)]), delta([entry(3)], [gone]), delta([entry(2, 900)])]
    events = chain(folder, "lists", *deltas)
    live, silver, restored = offered(events, trust), InForce(), InForce()
    silver.fold(rows(events), [])
    restored.restore(live.versions, live.saved_entries(), live.staged)
    assert live.entries["lists"].by_key == {
        ("card", token(2), "block"): ("test", 900),
        ("card", token(3), "block"): ("test", 1 << 62),
    }
    for other in (silver, restored):
        assert (other.entries, other.digest) == (live.entries, live.digest)


def test_the_digest_names_all_deltas_not_only_the_last(folder, trust):
    last = delta([entry(9)])
    one, other = (offered(chain(folder, "lists", delta([entry(n)]), last), trust) for n in (1, 2))
    assert one.digest != other.digest


def test_what_has_expired_is_forgotten(folder, trust):
    in_force = offered(chain(folder, "lists", delta([entry(1, 500), entry(2)])), trust)
    in_force.forget(499)
    assert len(in_force.entries["lists"].by_key) == 2
    in_force.forget(500)
    assert list(in_force.entries["lists"].by_token["card"]) == [token(2).encode()]


def test_a_long_chain_is_folded_in_a_second(folder):
    events = [
        {"scope": "lists", "version": n + 1, "previous_digest": "", "payload": delta([entry(n)])} for n in range(20_000)
    ]
    in_force, began = InForce(), time.perf_counter()
    in_force.fold(events, [])
    assert len(in_force.entries["lists"].by_key) == 20_000
    assert time.perf_counter() - began < 3


def explored(share, up_to_minor):
    cuts = {"challenge": 0.1, "review": 0.5, "decline": 0.8}
    return orjson.dumps({"cuts": cuts, "exploration": {"share": share, "up_to_minor": up_to_minor}}).decode()


@pytest.mark.parametrize(
    ("scope", "payload", "why"),
    [
        ("lists", delta(), "changes nothing"),
        ("lists", "[]", "must have exactly the keys add, remove"),
        ("lists", delta([{**entry(1), "token": "4111111111111111"}]), "add 1: token must be a text"),
        ("lists", delta([{**entry(1), "kind": "address"}]), "add 1: kind must be one of card"),
        ("lists", delta([{**entry(1), "list": "grey"}]), "add 1: list must be one of block"),
        ("lists", delta([entry(1, "tomorrow")]), "expires_at must be milliseconds"),
        ("suppressions", delta([{"customer": token(1), "rule": "a", "reason": "b", "until": None}]), "until must be"),
        ("thresholds", '{"cuts":{"challenge":0,"review":0.5,"decline":0.8}}', "The cuts must rise"),
        ("thresholds", explored(0.051, 100), "must be above 0 and at most 0.05"),
        ("thresholds", explored(0, 100), "must be above 0 and at most 0.05"),
        ("thresholds", explored(0.01, 0), "Exploration needs its limit"),
        ("thresholds", explored(0.01, 10.5), "Exploration needs its limit"),
        (
            "thresholds",
            '{"cuts":{"challenge":0.1,"review":0.5,"decline":0.8},"exploration":{}}',
            "the keys share, up_to",
        ),
        (
            "thresholds",
            '{"cuts":{"challenge":0.1,"review":0.5,"decline":0.8},"more":1}',
            "must have exactly the keys cuts",
        ),
        ("rules", '{"rules":[{}]}', "Rule 1 must have exactly the keys id, version"),
        ("rules", '{"rules":{}}', "rules must be a list"),
    ],
)
def test_a_payload_that_is_wrong_takes_no_force(folder, trust, scope, payload, why):
    in_force = InForce()
    with pytest.raises(ControlRefused) as refused:
        in_force.offer(signed(folder, scope, payload), trust)
    assert why in str(refused.value)
    assert "4111111111111111" not in str(refused.value)
    assert in_force == InForce()


SPLIT = {"digest": "a" * 64, "share_bp": 1_000, "model_version": 3}


def test_a_split_names_a_challenger_a_share_and_the_model_beside_it_or_ends():
    assert split_of(orjson.dumps(SPLIT).decode()) == Split("a" * 64, 1_000, 3)
    assert split_of(orjson.dumps(SPLIT).decode()).share == 0.1
    assert split_of('{"digest":null}') is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"digest": "a" * 63}, "must name the bundle"),
        ({"digest": None}, "must name the bundle"),
        ({"share_bp": 0}, "1 to 5000 basis points"),
        ({"share_bp": 5_001}, "1 to 5000 basis points"),
        ({"share_bp": True}, "1 to 5000 basis points"),
        ({"share_bp": 10.5}, "1 to 5000 basis points"),
        ({"model_version": 0}, "version of scope model"),
        ({"until": 1}, "exactly the keys"),
    ],
)
def test_any_other_split_is_refused(changes, told):
    with pytest.raises(ControlRefused, match=told):
        split_of(orjson.dumps({**SPLIT, **changes}).decode())


def test_a_split_without_a_share_is_refused():
    with pytest.raises(ControlRefused, match="exactly the keys digest, share_bp, model_version"):
        split_of(orjson.dumps({"digest": "a" * 64}).decode())
