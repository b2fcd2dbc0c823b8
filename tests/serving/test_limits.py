"""Token buckets: a key may call as often as the settings say; a Redis that is away holds nobody up."""

import asyncio
import socket
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import settings as conf
from lakehouse.passwords import make_password
from serving.limits import Buckets, Limits
from serving.problems import Problem


def limits(**changes):
    base = conf.load()
    values = {"keys": {"slow": 2.0}, **changes}
    return base.model_copy(update={"limits": base.limits.model_copy(update=values)})


async def allowed(one, name, calls):
    """How many of some calls at once were let through, and the last refusal."""
    good, refusal = 0, None
    for _ in range(calls):
        try:
            await one.take(name)
            good += 1
        except Problem as problem:
            refusal = problem
    return good, refusal


@given(
    gaps=st.lists(st.floats(0, 2, allow_nan=False), max_size=60),
    per_s=st.floats(0.1, 50),
    burst=st.floats(1, 20),
)
def test_no_stretch_of_time_lets_more_through_than_its_rate_and_one_burst(gaps, per_s, burst):
    buckets, now, taken = Buckets(), 1000.0, []
    for gap in gaps:
        now += gap
        wait_s = buckets.take("a", per_s, burst, now)
        assert wait_s >= 0
        if wait_s == 0:
            taken.append(now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - taken[first]) * per_s + 1e-6


def test_after_the_time_that_was_named_there_is_one_more():
    buckets = Buckets()
    assert [buckets.take("a", 2.0, 2.0, 10.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert buckets.take("a", 2.0, 2.0, 10.5) == 0.0
    assert buckets.take("b", 2.0, 2.0, 10.5) == 0.0


def test_a_key_has_its_own_rate_and_is_told_when_to_come_again():
    async def asked():
        one = Limits(limits(per_key_per_s=3.0))
        return [await allowed(one, name, 10) for name in ("slow", "other")]

    (slow, refusal), (other, _) = asyncio.run(asked())
    assert (slow, other) == (2, 3)
    assert (refusal.status, refusal.title, refusal.headers) == (429, "Too many calls", {"Retry-After": "1"})


def test_in_redis_replicas_count_together_and_without_it_each_for_itself(redis_server):
    settings = limits(store="redis", keys={"slow": 5.0}, per_key_per_s=5.0)
    name = uuid.uuid4().hex

    async def asked():
        first, second = Limits(settings), Limits(settings)
        together = (await allowed(first, name, 4))[0] + (await allowed(second, name, 4))[0]
        await first.close()
        await second.close()
        return together

    began = time.monotonic()
    together = asyncio.run(asked())
    assert 5 <= together <= 5 + 5 * (time.monotonic() - began) + 1


@pytest.mark.parametrize("listens", [False, True])
def test_a_redis_that_is_away_or_hangs_holds_nobody_up(tmp_path, listens):
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        if listens:
            hanging.listen()
        base = limits(store="redis")
        changes = {"port": hanging.getsockname()[1], "password_file": tmp_path / "redis.key"}
        settings = base.model_copy(update={"redis": base.redis.model_copy(update=changes)})
        make_password(settings.redis.password_file)

        async def asked():
            one = Limits(settings)
            began = time.monotonic()
            good, _ = await allowed(one, "slow", 5)
            took_s = time.monotonic() - began
            await one.close()
            return good, took_s

        good, took_s = asyncio.run(asked())
    assert good == 2
    assert took_s < 0.5
