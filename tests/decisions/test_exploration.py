"""Declines that are let through: the share that was signed, below its limit, by a keyed hash, and nobody else."""

import logs
import models
import numpy as np
import orjson
import pytest

from decisions.exploration import draws, key_of
from lakehouse import keys
from lakehouse.crypto import Tokens
from lakehouse.registry import PREFIX_BYTES, registry
from lakehouse.single import read

DECLINE_ALL = {"challenge": 1e-6, "review": 1e-6, "decline": 1e-6}
SHARE, LIMIT = 0.05, 4_000


def thresholds(exploration=None):
    more = {} if exploration is None else {"exploration": exploration}
    return orjson.dumps({"cuts": DECLINE_ALL, **more}).decode()


@pytest.fixture(scope="module")
def payments():
    return logs.payments(per_day=500, span=2)


@pytest.fixture
def values(settings, tmp_path, payments):
    """The log of a world in which every payment would be declined, and a share of the small ones let through."""
    digest = models.stored(settings.models.store, tmp_path / "scratch", logs.keys_folder(settings))
    versions = {}
    begun = [logs.control(settings, versions, "reference", logs.reference()), *logs.model(settings, versions, digest)]

    def made(exploration, *more):
        extra = [logs.control(settings, versions, scope, payload) for scope, payload in more]
        return [*begun, *extra, logs.control(settings, versions, "thresholds", thresholds(exploration)), *payments]

    return made


def by_offset(settings, values, told=None):
    found = logs.columns(logs.decided(logs.engine(settings, told=told), logs.messages(values)))
    return {one["offset"]: one for one in found if one["outcome"] != b"rejected"}


def test_nothing_is_explored_unless_it_was_signed(settings, values):
    found = by_offset(settings, values(None)).values()
    assert {one["outcome"] for one in found} == {b"decline"}
    assert {(one["propensity"], one["explored_from"]) for one in found} == {(None, None)}


def test_the_signed_share_of_the_small_declines_is_let_through_by_their_draws(settings, values):
    found = by_offset(settings, values({"share": SHARE, "up_to_minor": LIMIT})).values()
    small = [one for one in found if one["amount_base_minor"] <= LIMIT]
    assert len(small) > 300
    assert len(small) < len(found)
    drawn = draws(key_of(keys.source(settings).keyring()), [one["transaction_id"] for one in small])
    through = [one["transaction_id"] for one, draw in zip(small, drawn, strict=True) if draw < SHARE]
    assert through
    assert [one["transaction_id"] for one in found if one["outcome"] == b"approve"] == through
    assert {one["propensity"] for one in small} == {SHARE}
    assert {one["explored_from"] for one in small if one["outcome"] == b"approve"} == {b"decline"}
    for one in found:
        if one["outcome"] == b"decline":
            assert one["explored_from"] is None
        if one["amount_base_minor"] > LIMIT:
            assert (one["outcome"], one["propensity"]) == (b"decline", None)
    # What the models said of them stays as it is.
    assert {one["risk"] for one in found} == {b"critical"}


def test_any_cut_of_the_log_and_any_replay_lets_the_same_ones_through(settings, values, seed):
    log = logs.messages(values({"share": SHARE, "up_to_minor": LIMIT}))
    whole = logs.decided(logs.engine(settings), log)
    cuts = sorted(np.random.default_rng(seed).choice(np.arange(1, len(log)), 7, replace=False).tolist())
    assert logs.decided(logs.engine(settings), log, cuts) == whole
    assert any(one["explored_from"] for one in logs.columns(whole))


def test_who_is_on_a_block_list_is_never_let_through(settings, values, payments):
    tokens = Tokens(keys.source(settings).keyring())
    payment = registry().latest("payment")
    customers = sorted({read(payment, v)["customer_id"] for v in payments if v[:PREFIX_BYTES] == payment.prefix})
    blocked = {tokens.text(digest) for digest in tokens.digests("customer", [c.encode() for c in customers[::2]])}
    entries = [
        {"list": "block", "kind": "customer", "token": token, "reason": "a test", "expires_at": None}
        for token in sorted(blocked)
    ]
    lists = orjson.dumps({"add": entries, "remove": []}).decode()
    found = by_offset(settings, values({"share": SHARE, "up_to_minor": 10**9}, ("lists", lists))).values()
    theirs = [one for one in found if one["customer_token"].decode() in blocked]
    assert theirs
    assert {(one["outcome"], one["propensity"]) for one in theirs} == {(b"decline", None)}
    assert {one["propensity"] for one in found if one not in theirs} == {SHARE}


def test_nothing_is_explored_below_the_highest_rung(settings, values):
    log = values({"share": SHARE, "up_to_minor": 10**9})
    lower = by_offset(settings, log, told=lambda offset: "without_anomaly" if offset % 2 else "full")
    assert {one["propensity"] for at, one in lower.items() if at % 2} == {None}
    assert {one["propensity"] for at, one in lower.items() if not at % 2} == {SHARE}
    assert {one["explored_from"] for at, one in lower.items() if at % 2} == {None}
