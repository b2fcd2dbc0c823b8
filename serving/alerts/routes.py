"""Routes of alerts: what there is, what could not be delivered, and who takes care of it."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as UrlPart
from pydantic import BaseModel, Field

from lakehouse import trail
from lakehouse.errors import KeysMissing, TrailBroken
from lakehouse.moments import now_ms, time_of
from serving import problems
from serving.alerts.desk import desk
from serving.alerts.outbox import MOST_SHOWN, Message, Shown
from serving.auth import ALERTS, Allowed, Caller
from serving.problems import Problem

MAX_ID = 64

Keeper = Annotated[Caller, Depends(Allowed(ALERTS))]
REFUSED = {**problems.DENIED, **problems.ADDRESS, 503: "the outbox does not answer"}


class AlertShown(BaseModel):
    """A decision that somebody is told of."""

    alert_id: str
    rule: str
    state: str = Field(description="new, open, repeated (another alert tells of it), stale (too old) or acknowledged")
    repeats: str | None = Field(description="the alert that tells of it")
    level: int = Field(description="how often it was escalated")
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    decision_id: str
    card_token: str
    outcome: str
    risk: str | None
    score: float | None
    amount_base_minor: int | None = Field(description="minor units of the base currency")
    reasons: Sequence[str]
    decided_at: datetime


class MessageShown(BaseModel):
    """A message to a channel."""

    message_id: str
    channel: str
    kind: str = Field(description="alerts or verification")
    alerts: int = Field(description="how many it tells of")
    state: str = Field(description="waiting, sent, dead (given up) or needless (acknowledged before it was sent)")
    attempts: int
    error: str | None = Field(description="of the last attempt")
    created_at: datetime


class Alerts(BaseModel):
    """Alerts, newest first."""

    alerts: Sequence[AlertShown]


class Messages(BaseModel):
    """Messages, newest first."""

    messages: Sequence[MessageShown]


router = APIRouter(tags=["alerts"])


@router.get("/v1/alerts", summary="The newest alerts", responses=problems.documented(REFUSED))
async def alerts(
    request: Request,
    _: Keeper,
    state: Annotated[Literal["new", "open", "repeated", "stale", "acknowledged"] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_SHOWN)] = 50,
) -> Alerts:
    """Of all states, or of one."""
    found = await desk(request).asked(lambda: desk(request).outbox.alerts(state, limit))
    return Alerts(alerts=[_alert(one) for one in found])


@router.get("/v1/alert-messages", summary="Messages of a state", responses=problems.documented(REFUSED))
async def messages(
    request: Request,
    _: Keeper,
    state: Annotated[Literal["waiting", "sent", "dead", "needless"], Query()] = "dead",
    limit: Annotated[int, Query(ge=1, le=MOST_SHOWN)] = 50,
) -> Messages:
    """Dead ones were given up after `alerts.attempts`; `python -m serving.alerts retry ID` delivers one again."""
    found = await desk(request).asked(lambda: desk(request).outbox.messages(state, limit))
    return Messages(messages=[_message(one) for one in found])


@router.post(
    "/v1/alerts/{id}/acknowledge",
    summary="Take care of an alert",
    responses=problems.documented(
        {
            **REFUSED,
            404: "no such alert or message",
            503: "the outbox does not answer, or the audit trail cannot be written: nothing is acknowledged",
        }
    ),
)
async def acknowledge(
    request: Request,
    id: Annotated[str, UrlPart(description="of an alert, or of a message for all that it tells of")],  # noqa: A002
    caller: Keeper,
) -> Alerts:
    """Nobody else is told of it; who was first stays. The audit trail has it before it is so."""
    known = len(id) <= MAX_ID and id.isalnum() and id.isascii()
    work = desk(request)
    named = await work.asked(lambda: work.outbox.named(id)) if known else []
    if not named:
        raise Problem(404, "No such alert", "Take the id of an alert or a message.")
    details: trail.Details = {"key": caller.name, "alerts": len(named)}
    try:
        await asyncio.to_thread(trail.record, request.app.state.settings, "alert.acknowledged", id, details)
    except (TrailBroken, KeysMissing):
        raise Problem(
            503, "The acknowledgement cannot be recorded", "Nothing is acknowledged until the audit trail is mended."
        ) from None
    found = await work.asked(lambda: work.outbox.acknowledge(id, caller.name, now_ms()))
    return Alerts(alerts=[_alert(one) for one in found])


def _alert(one: Shown) -> AlertShown:
    alert = one.alert
    return AlertShown(
        alert_id=alert.alert_id,
        rule=alert.rule,
        state=one.state,
        repeats=one.repeats,
        level=one.level,
        acknowledged_at=None if one.acknowledged_at is None else time_of(one.acknowledged_at),
        acknowledged_by=one.acknowledged_by,
        decision_id=alert.decision_id,
        card_token=alert.card_token,
        outcome=alert.outcome,
        risk=alert.risk,
        score=alert.score,
        amount_base_minor=alert.amount_base_minor,
        reasons=alert.reasons.split(",") if alert.reasons else [],
        decided_at=time_of(alert.decided_at),
    )


def _message(one: Message) -> MessageShown:
    return MessageShown(
        message_id=one.message_id,
        channel=one.channel,
        kind=one.kind,
        alerts=one.alerts,
        state=one.state,
        attempts=one.attempts,
        error=one.error,
        created_at=time_of(one.created_at),
    )
