"""GET /v1/rules, /v1/lists and /v1/models: what is in force, folded from the signed control events of the log."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from decisions.outcome import OUTCOMES
from expectations.control import InForce
from expectations.rules.rule_set import Rule
from expectations.rules.vocabulary import LISTS
from lakehouse.moments import time_of
from serving import problems
from serving.auth import DECIDE, READ, Allowed, Caller
from serving.problems import Problem
from serving.replica import replica
from serving.standing import Standing

router = APIRouter(tags=["in force"])
Reader = Annotated[Caller, Depends(Allowed(READ, DECIDE))]
MOST = 500
_NEVER_MS = 2**62
REFUSED = {**problems.DENIED, 503: "this replica does not know what is in force, and why"}
ANSWERS = problems.documented(REFUSED)


class Known(BaseModel):
    """Of what is shown: its version, and whether the engine decides by the same."""

    version: int | None = Field(description="of the scope's chain; null: nothing of it was ever put into force")
    control_digest: str = Field(description="of everything in force, as this replica folded it")
    engine_control_digest: str | None = Field(description="the same, of the last decision; null before one was read")
    engine_agrees: bool | None = Field(description="whether both are equal; they differ for a moment after a change")


class RuleInForce(BaseModel):
    """One rule."""

    id: str
    version: int
    state: str = Field(description="draft, shadow, active or retired; only active ones act")
    sql: str
    score: float | None = Field(description="what it adds to the score")
    outcome: str | None = Field(description="the mildest outcome that it leaves")
    reason_code: str
    sentence: str
    owner: str
    pattern: str | None
    valid_from: datetime | None
    valid_to: datetime | None


class Rules(Known):
    """All rules of the version in force."""

    rules: Sequence[RuleInForce]


class ListEntry(BaseModel):
    """Who is on a list: by token, of a merchant by its id; never in the clear, and without the reason's free text."""

    list: str
    kind: str
    token: str
    expires_at: datetime | None


class Lists(Known):
    """A page of entries that have not expired, in the order of kind, token and list."""

    entries: Sequence[ListEntry]
    next: str | None = Field(description="`after` of the next page; null when there are no more")


class Models(Known):
    """The model in force, and the cuts between outcomes where they were set apart from it."""

    model_digest: str | None = Field(description="SHA-256 (hex) of the bundle's manifest")
    engine_model_digest: str | None = Field(description="of the last decision")
    thresholds: Mapping[str, float] | None = Field(description="null: those of the model's manifest")


@router.get("/v1/rules", summary="The rules in force", responses=ANSWERS)
def rules(request: Request, _: Reader) -> Rules:
    """Every rule of the version in force, whatever its state."""
    standing = _standing(request)
    with standing.held() as now:
        return Rules(**_known(standing, now, "rules"), rules=[_rule(rule) for rule in now.rules.rules])


@router.get(
    "/v1/lists", summary="The entries of lists in force", responses=problems.documented({**REFUSED, **problems.ADDRESS})
)
def lists(
    request: Request,
    _: Reader,
    name: Annotated[Literal[LISTS] | None, Query(alias="list", description="only of this list")] = None,  # type: ignore[valid-type]
    limit: Annotated[int, Query(ge=1, le=MOST, description="at most so many")] = 100,
    after: Annotated[str | None, Query(max_length=512, description="`next` of the page before")] = None,
) -> Lists:
    """Entries by token; `list`, `limit` and `after` choose. What has expired on the engine's clock is left out."""
    standing, begin = _standing(request), _place(after)
    with standing.held() as now:
        clock_ms = standing.engine_clock
        found = sorted(
            (key, until)
            for key, (_, until) in now.entries["lists"].by_key.items()
            if key > begin and until > clock_ms and name in (None, key[2])
        )
        known = _known(standing, now, "lists")
    shown = [ListEntry(kind=k, token=t, list=n, expires_at=_time(until)) for (k, t, n), until in found[:limit]]
    last = _cursor(found[limit - 1][0]) if len(found) > limit else None
    return Lists(**known, entries=shown, next=last)


@router.get("/v1/models", summary="The model in force", responses=ANSWERS)
def models(request: Request, _: Reader) -> Models:
    """By digest; what a model is made of lies in the model store under it."""
    standing = _standing(request)
    with standing.held() as now:
        return Models(
            **_known(standing, now, "model"),
            model_digest=now.model_digest,
            engine_model_digest=standing.engine_model,
            thresholds=now.cuts,
        )


def _standing(request: Request) -> Standing:
    standing = replica(request).standing
    if standing.missing:
        raise Problem(503, "What is in force is not known here", f"{standing.missing}. Deciding goes on without it.")
    return standing


def _known(standing: Standing, now: InForce, scope: str) -> dict[str, Any]:
    own, engine = now.digest, standing.engine_digest
    return {
        "version": now.versions[scope].version if scope in now.versions else None,
        "control_digest": own,
        "engine_control_digest": engine,
        "engine_agrees": None if engine is None else own == engine,
    }


def _rule(rule: Rule) -> RuleInForce:
    return RuleInForce(
        id=rule.id,
        version=rule.version,
        state=rule.state,
        sql=rule.sql,
        score=rule.score or None,
        outcome=OUTCOMES[rule.severity] if rule.severity or not rule.score else None,
        reason_code=rule.reason_code,
        sentence=rule.sentence,
        owner=rule.owner,
        pattern=rule.pattern,
        valid_from=_time(rule.valid_from_ms) if rule.valid_from_ms > 0 else None,
        valid_to=_time(rule.valid_to_ms),
    )


def _time(milliseconds: int) -> datetime | None:
    return None if milliseconds >= _NEVER_MS else time_of(milliseconds)


def _cursor(key: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(key))).decode().rstrip("=")


def _place(cursor: str | None) -> tuple[str, ...]:
    """The key of a cursor; Problem 422 for a text that is none."""
    if cursor is None:
        return ()
    try:
        found = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        found = None
    if not (isinstance(found, list) and len(found) == 3 and all(isinstance(one, str) for one in found)):
        raise Problem(422, "after is not a cursor", "Take it from `next` of the page before.")
    return tuple(found)
