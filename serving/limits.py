"""How often a key may call: a token bucket for each, in this process, or in Redis for all replicas together.

While Redis is away each replica counts on its own: a limit never stops deciding.
"""

import asyncio
import math
import time

from prometheus_client import Counter
from redis import RedisError

from lakehouse import cache
from lakehouse.serving_settings import Limits as LimitSettings
from lakehouse.settings import Settings
from serving.problems import Problem

WAIT_S = 0.05
"""For Redis's answer; it is in the way of the caller's."""
AGAIN_S = 1.0
"""How long nobody asks a Redis that did not answer."""

REFUSED = Counter("fraudlake_api_rate_limited", "Calls answered 429", ["key"])
FAILURES = Counter("fraudlake_rate_limit_store_failures", "Calls that were counted in this process alone")

_TAKE = """
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local held = redis.call('HMGET', KEYS[1], 'left', 'at')
local left = burst
if held[1] then left = math.min(burst, held[1] + math.max(0, now - held[2]) * rate) end
local wait = 0
if left >= 1 then left = left - 1 else wait = (1 - left) / rate end
redis.call('HSET', KEYS[1], 'left', string.format('%.9f', left), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return string.format('%.6f', wait)
"""


class Buckets:
    """Token buckets by name; lives on the event loop."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, float]] = {}

    def take(self, name: str, per_s: float, burst: float, now_s: float) -> float:
        """Take one token; 0, or after how many seconds there is one."""
        left, at = self._held.get(name, (burst, now_s))
        left = min(burst, left + max(0.0, now_s - at) * per_s)
        taken = left >= 1
        self._held[name] = left - taken, now_s
        return 0.0 if taken else (1 - left) / per_s


class Limits:
    """The limits of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._limits: LimitSettings = settings.limits
        self._here = Buckets()
        self._prefix = f"fraudlake:{settings.kafka.topic_prefix}:rate:"
        self._asked_again_s = 0.0
        self._redis = None
        if self._limits.store == "redis":
            self._redis = cache.waiting_client(settings)
            self._script = self._redis.register_script(_TAKE)

    async def take(self, name: str) -> None:
        """Count a call of a key; Problem 429 above its rate."""
        per_s = self._limits.keys.get(name, self._limits.per_key_per_s)
        await self._take(name, name, per_s, max(1.0, per_s * self._limits.burst_s))

    async def take_reveal(self, name: str) -> None:
        """Count a look-up of a card number by a key; Problem 429 above the rate of those."""
        per_min = self._limits.reveals_per_min
        await self._take(f"reveal|{name}", name, per_min / 60, per_min)

    async def _take(self, bucket: str, key: str, per_s: float, burst: float) -> None:
        wait_s = await self._asked(bucket, per_s, burst)
        if wait_s > 0:
            REFUSED.labels(key).inc()
            seconds = max(1, math.ceil(wait_s))
            raise Problem(
                429, "Too many calls", f"Try again in {seconds} s.", headers={"Retry-After": str(seconds)}
            ) from None

    async def _asked(self, bucket: str, per_s: float, burst: float) -> float:
        now_s = time.monotonic()
        if self._redis is not None and now_s >= self._asked_again_s:
            try:
                async with asyncio.timeout(WAIT_S):
                    return float(await self._script(keys=[self._prefix + bucket], args=[per_s, burst]))
            except (RedisError, OSError, TimeoutError):
                FAILURES.inc()
                self._asked_again_s = time.monotonic() + AGAIN_S
        return self._here.take(bucket, per_s, burst, now_s)

    async def close(self) -> None:
        """Close the connection."""
        if self._redis is not None:
            await self._redis.aclose()
