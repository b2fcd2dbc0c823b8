"""POST /v1/tokens/card: the token of a card number, for who may look it up; each use is in the audit trail first."""

import asyncio
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from expectations.rows import is_well_formed_card
from lakehouse import trail
from lakehouse.crypto import canonical
from lakehouse.errors import KeysMissing, TrailBroken
from lakehouse.settings import Settings
from serving import problems
from serving.auth import REVEAL, Allowed, Caller
from serving.limits import Limits
from serving.problems import Problem
from serving.replica import replica
from serving.schemas import Strict

router = APIRouter(tags=["tokens"])


class CardLookUp(Strict):
    """A card number, which is neither kept nor logged, and why it is looked up."""

    card_number: str = Field(min_length=12, max_length=32, description="12 to 19 digits; spaces and hyphens may be")
    purpose: Literal["case", "dispute", "customer_request", "list", "legal"] = Field(
        description="enters the audit trail with the token; a closed list, as free text could hold anything"
    )


class CardToken(BaseModel):
    """The card's token, as in tables, decisions and lists."""

    token: str
    audit_sequence: int = Field(description="of the entry in the audit trail that tells of this look-up")


@router.post(
    "/v1/tokens/card",
    summary="The token of a card number",
    responses=problems.documented(
        {
            **problems.DENIED,
            **problems.BODY,
            422: "not a card number, or no purpose",
            503: "the audit trail cannot be written, or the key in force is not here: nothing is answered",
        }
    ),
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": CardLookUp.model_json_schema()}}}
    },
)
async def card_token(request: Request, caller: Annotated[Caller, Depends(Allowed(REVEAL))]) -> CardToken:
    """Look a card up. The entry of the audit trail (key, purpose, token) is on the disk before the answer leaves."""
    limits: Limits = request.app.state.limits
    await limits.take_reveal(caller.name)
    given = problems.parsed(CardLookUp, await request.body(), "look-up of a card")
    number = canonical("card", given.card_number.encode())
    if not is_well_formed_card(np.frombuffer(number, np.uint8), 0, len(number)):
        raise Problem(422, "That is not a card number", "It has 12 to 19 digits and a right check digit.")
    try:
        tokens = replica(request).tokens()[-1]
    except KeysMissing:
        raise Problem(
            503, "The key in force is not here", "Bring it to this machine, then start the API again."
        ) from None
    token = tokens.text(tokens.digests("card", [number])[0])
    settings: Settings = request.app.state.settings
    details = {"key": caller.name, "purpose": given.purpose}
    try:
        entry = await asyncio.to_thread(trail.record, settings, "card.looked_up", token, details)
    except (TrailBroken, KeysMissing):
        raise Problem(
            503, "The look-up cannot be recorded", "Nothing is answered until the audit trail is mended."
        ) from None
    return CardToken(token=token, audit_sequence=entry.sequence)
