"""POST /v1/decisions and GET /v1/decisions/{id}."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as UrlPart

from serving import problems
from serving.auth import DECIDE, READ, REPLAY, Allowed, Caller
from serving.cards import answer_of
from serving.decisions import described
from serving.problems import Problem
from serving.replica import MAX_ID, replica
from serving.schemas import PAYMENT_SCHEMA, DecisionAnswer, PaymentRequest

router = APIRouter(tags=["decisions"])


@router.post(
    "/v1/decisions",
    summary="Decide a payment",
    response_model=DecisionAnswer,
    responses=problems.documented(
        {
            **problems.DENIED,
            **problems.BODY,
            409: "another payment has this transaction_id, or may have it and nobody can compare now",
            422: "not a payment: the fields that are wrong, or the rules that rejected it",
            503: "nothing was decided: neither the log nor the spool took the payment",
        }
    ),
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": PAYMENT_SCHEMA}}}},
)
async def decide(request: Request, caller: Annotated[Caller, Depends(Allowed(DECIDE))]) -> Response:
    """Write the payment to the log, wait for the engine's decision, answer.

    After `decision_timeout_ms`, or while the log is away, the ladder answers by the card's last decision or by amount
    and channel, with `degraded: true`; that answer stays the effective outcome.
    """
    received_at = datetime.now(UTC)
    payment = problems.parsed(PaymentRequest, await request.body(), "payment")
    if payment.received_at is not None:
        if REPLAY not in caller.roles:
            raise Problem(403, "This key may not set received_at", "Leave it out; the time of arrival is taken.")
        received_at = payment.received_at
    made = await replica(request).path.decide(payment, received_at)
    return Response(made.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/decisions/{id}",
    summary="What a payment was answered",
    responses=problems.documented(
        {
            **problems.DENIED,
            **problems.ADDRESS,
            404: "no decision is known by that id",
            503: "it is not among the recent ones, and the store of older ones does not answer",
        }
    ),
)
async def find(
    request: Request,
    id: Annotated[str, UrlPart(description="a transaction_id, or a decision_id")],  # noqa: A002
    _: Annotated[Caller, Depends(Allowed(READ, DECIDE))],
) -> DecisionAnswer:
    """The effective and the decided outcome: of a recent payment from memory, of older ones from the store."""
    known = len(id) <= MAX_ID
    recent = replica(request).replies.find(id) if known else None
    if recent is not None and recent.outcome is not None:
        return described(recent)
    try:
        found = await request.app.state.reads.one(id) if known else None
    except Problem:
        if recent is None:
            raise
        found = None
    if found is not None:
        return answer_of(found)
    if recent is not None:
        # Of a payment that is not decided yet, what the API answered.
        return described(recent)
    raise Problem(404, "No such decision", "Neither recent ones nor the store have it under that id.")
