"""An entity's profile as an answer: its values, and in words whether they can be trusted."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from prometheus_client import Counter
from pydantic import BaseModel, Field

from lakehouse.errors import SettingsError
from lakehouse.moments import now_ms, time_of
from lakehouse.serving_settings import Profiles
from lakehouse.settings import Settings
from serving.profile_store import InProcess, Look, ProfileStore
from serving.profiles import KINDS, Profile
from serving.schemas import Position

READS = Counter("fraudlake_profile_reads", "Profiles asked for", ["status"])


class EntityProfile(BaseModel):
    """The features of an entity as they were at its last decided payment, without that payment itself."""

    kind: str
    status: Literal["fresh", "stale", "missing"] = Field(
        description="fresh: of its last payment; stale: it may have paid since; missing: there is none"
    )
    reason: str = Field(description="why, in a sentence")
    age_s: float | None = Field(default=None, description="seconds since that payment was decided")
    as_of: datetime | None = Field(default=None, description="event_time of that payment")
    transaction_id: str | None = Field(default=None, description="that payment")
    position: Position | None = Field(default=None, description="where that payment lies in the log")
    feature_set: str | None = Field(default=None, description="hash of the feature set that names the values")
    values: Mapping[str, float | None] = Field(default={}, description="value by feature; null where it is not known")


def stored(settings: Settings) -> ProfileStore:
    """The store that the settings choose; KeysMissing where its password is not there."""
    if settings.profiles.store == "in_process":
        return InProcess(settings.profiles.ttl_s, settings.profiles.max_entries)
    from serving.redis_store import InRedis

    return InRedis(settings)


def profile(settings: Settings, kind: str, token: str) -> EntityProfile:
    """The profile of an entity from the Redis of the settings; StoreUnavailable when it does not answer.

    `kind` is one of KINDS; `token` is as in the tables, for a merchant its plain id.
    """
    if settings.profiles.store == "in_process":
        raise SettingsError(
            "With profiles.store `in_process`, profiles are in the memory of the API.",
            "Ask it (GET /v1/entities/{kind}/{token}), or choose redis: `make up WITH=redis`.",
        )
    store = stored(settings)
    try:
        return looked_up(store, settings.profiles, kind, token)
    finally:
        store.close()


def looked_up(store: ProfileStore, settings: Profiles, kind: str, token: str) -> EntityProfile:
    """What a store says of an entity now; ValueError for a kind that is none of KINDS."""
    if kind not in KINDS:
        raise ValueError(f"There is no kind of entity {kind!r}; there are {', '.join(KINDS)}.")
    answer = described(kind, store.look((kind, token)), now_ms(), settings)
    READS.labels(answer.status).inc()
    return answer


def described(kind: str, look: Look, now: int, settings: Profiles) -> EntityProfile:
    """What was found, judged at a moment (milliseconds)."""
    if look.profile is None:
        return EntityProfile(kind=kind, status="missing", reason=_why_missing(kind, look, now, settings))
    doubt = _doubt(look, look.profile.decided_at_ms, now, settings)
    return _found(kind, look.profile, now, doubt)


def _found(kind: str, found: Profile, now: int, doubt: str | None) -> EntityProfile:
    age_s = max(0, now - found.decided_at_ms) / 1000
    said = f"The last payment of this {kind} that was written here was decided {age_s:.0f} s ago"
    return EntityProfile(
        kind=kind,
        status="stale" if doubt else "fresh",
        reason=f"{said}; {doubt}." if doubt else f"{said}; nothing later is missing.",
        age_s=age_s,
        as_of=time_of(found.as_of_ms),
        transaction_id=found.transaction_id,
        position=Position(topic_id=found.topic_id, partition=found.partition, offset=found.offset),
        feature_set=found.feature_set,
        values=found.values,
    )


def _why_missing(kind: str, look: Look, now: int, settings: Profiles) -> str:
    doubt = _doubt(look, now - settings.ttl_s * 1000, now, settings)
    if doubt is None:
        return f"No payment of this {kind} was decided in the last {settings.ttl_s} s; profiles are kept so long."
    return f"No profile of this {kind} is here, which does not mean that it has not paid: {doubt}."


def _doubt(look: Look, since_ms: int, now: int, settings: Profiles) -> str | None:
    """Why a payment decided after `since_ms` may lack in the store; None when none does, but for the last moments."""
    if look.covered is None:
        return "nobody has written profiles in the last while"
    behind_s = (now - look.covered.until_ms) / 1000
    if behind_s > settings.stale_after_s:
        return f"profiles have not been complete for {behind_s:.0f} s"
    if look.covered.since_ms > since_ms:
        return f"profiles are complete only for payments of the last {(now - look.covered.since_ms) / 1000:.0f} s"
    return None
