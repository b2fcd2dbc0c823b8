"""POST /v1/labels: what somebody found a payment to be, as an event on the log."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from lakehouse.registry import registry
from lakehouse.single import written
from serving import problems
from serving.auth import LABEL, Allowed, Caller
from serving.decisions import ACKNOWLEDGE_S
from serving.fallback import refused
from serving.following import PARTITION
from serving.problems import Problem
from serving.replica import replica
from serving.schemas import LABEL_SCHEMA, LabelRequest

router = APIRouter(tags=["labels"])
_LABEL = registry().latest("label")


class LabelTaken(BaseModel):
    """A label that is on the log; the engine takes it into account from `label_available_at` on."""

    label_id: str
    offset: int = Field(description="of topic `events`")
    received_at: datetime
    label_available_at: datetime


@router.post(
    "/v1/labels",
    status_code=202,
    summary="Label a payment",
    responses=problems.documented(
        {
            **problems.DENIED,
            **problems.BODY,
            422: "not a label: the fields that are wrong, or the rules of admission that it breaks",
            503: "the log did not take the label; send it again with the same label_id",
        }
    ),
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": LABEL_SCHEMA}}}},
)
async def label(request: Request, _: Annotated[Caller, Depends(Allowed(LABEL))]) -> LabelTaken:
    """Write the label to the log. It carries the payment's keys; the same `label_id` again changes nothing."""
    given, now = problems.parsed(LabelRequest, await request.body(), "label"), datetime.now(UTC)
    own = replica(request)
    available_at = given.label_available_at or now
    record = written(_LABEL, {**given.__dict__, "received_at": now, "label_available_at": available_at})
    if broken := refused(record, own.path.digests):
        raise Problem(422, "The label was rejected", f"It breaks: {broken.replace(',', ', ')}.")
    try:
        offset = await asyncio.wait_for(asyncio.wrap_future(own.writer.put(record, PARTITION)), ACKNOWLEDGE_S)
    except (TimeoutError, OSError):
        raise Problem(
            503, "The label could not be written", "Send it again with the same label_id; twice does no harm."
        ) from None
    return LabelTaken(label_id=given.label_id, offset=offset, received_at=now, label_available_at=available_at)
