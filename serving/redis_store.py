"""Profiles in Redis, shared by every replica: a hash each, with the time to live of its payment."""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeVar

from redis import Redis, RedisError

from lakehouse import cache
from lakehouse.settings import Settings
from serving.profile_store import Covered, Look, left_ms
from serving.profiles import DecidedPayment, Name, Profile, profile

T = TypeVar("T")

AT_ONCE = 200
"""Profiles in one call: some 500 KB, a few milliseconds of the server, which does one thing at a time."""

_PUT = """
for i, key in ipairs(KEYS) do
  local topic, offset, life, body = unpack(ARGV, 4 * i - 3, 4 * i)
  local held = redis.call('HMGET', key, 'topic_id', 'offset')
  if held[1] ~= topic or tonumber(held[2]) < tonumber(offset) then
    redis.call('HSET', key, 'topic_id', topic, 'offset', offset, 'profile', body)
    redis.call('PEXPIRE', key, life)
  end
end
"""
_COVER = """
local since, untl = tonumber(ARGV[1]), tonumber(ARGV[2])
local held = redis.call('HMGET', KEYS[1], 'since', 'until')
if held[1] then
  local from, to = tonumber(held[1]), tonumber(held[2])
  if from > untl then return 1 end
  if since <= to then since, untl = math.min(from, since), math.max(to, untl) end
elseif ARGV[3] == '0' then
  return 0
end
redis.call('HSET', KEYS[1], 'since', string.format('%d', since), 'until', string.format('%d', untl))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""


class InRedis:
    """The store of one world, by the topics' prefix; comparing and writing are one step of the server."""

    def __init__(self, settings: Settings) -> None:
        self._ttl_s = settings.profiles.ttl_s
        self._prefix = f"fraudlake:{settings.kafka.topic_prefix}"
        self._settings = settings
        self._client: Redis = cache.client(settings)
        self._put = self._client.register_script(_PUT)
        self._cover = self._client.register_script(_COVER)

    def _key(self, name: Name) -> str:
        return f"{self._prefix}:profile:{name[0]}:{name[1]}"

    def _asked(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except RedisError as error:
            raise cache.unavailable(self._settings, error) from None

    def put(self, payments: Mapping[Name, DecidedPayment]) -> None:
        """Write profiles, some hundred in a call."""
        left = iter(payments.items())
        while some := list(islice(left, AT_ONCE)):
            keys: list[str] = []
            values: list[Any] = []
            for name, payment in some:
                life = left_ms(payment, self._ttl_s)
                if life > 0:
                    keys.append(self._key(name))
                    body = profile(name[0], payment).to_json()
                    values += (payment.topic_id, payment.offset, life, body)
            if keys:
                self._asked(lambda keys=keys, values=values: self._put(keys, values))  # type: ignore[misc]

    def cover(self, more: Covered, first: bool) -> bool:
        """Note what has been written; a server that began anew has lost the earlier notes with the profiles."""
        values = [more.since_ms, more.until_ms, int(first), self._ttl_s * 1000]
        return bool(self._asked(lambda: self._cover([f"{self._prefix}:covered"], values)))

    def look(self, name: Name) -> Look:
        """Profile and coverage of one moment."""

        def work() -> list[Any]:
            pipeline = self._client.pipeline(transaction=True)
            pipeline.hget(self._key(name), "profile")
            pipeline.hmget(f"{self._prefix}:covered", ["since", "until"])
            return pipeline.execute()

        body, (since, until) = self._asked(work)
        covered = None if since is None else Covered(int(since), int(until))
        return Look(None if body is None else Profile.from_json(body), covered)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
